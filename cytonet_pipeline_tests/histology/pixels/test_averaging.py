"""Area averages against a loop that follows the definition."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytonet_pipeline.histology.pixels.averaging import Boxes, average


def by_definition(source: np.ndarray, down: Boxes, right: Boxes) -> np.ndarray:
    """Every output pixel: the sum of value × covered area, over the box's area, in float64."""

    def cover(pixel: int, begin: float, end: float) -> float:
        return max(0.0, min(pixel + 1, end) - max(pixel, begin))

    out = np.zeros((down.count, right.count))
    for i in range(down.count):
        top, bottom = down.start + i * down.step - down.first, down.start + (i + 1) * down.step - down.first
        for j in range(right.count):
            left, last = right.start + j * right.step - right.first, right.start + (j + 1) * right.step - right.first
            for y in range(math.floor(top), min(math.ceil(bottom), len(source))):
                for x in range(math.floor(left), min(math.ceil(last), source.shape[1])):
                    out[i, j] += float(source[y, x]) * cover(y, top, bottom) * cover(x, left, last)
    return out / (down.step * right.step)


@settings(max_examples=60, deadline=None)
@given(
    starts=st.tuples(st.floats(-5, 5), st.floats(-5, 5)),
    step=st.one_of(st.integers(1, 5).map(float), st.floats(1, 6), st.sampled_from([1.0, 1.25, 1.5, 2.5])),
    counts=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    seed=st.integers(0, 99),
)
def test_an_area_average_is_what_its_definition_says(starts, step, counts, seed):
    down, right = (Boxes.snapped(start, step, count) for start, count in zip(starts, counts, strict=True))
    shape = (down.last - down.first, right.last - right.first)
    source = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)

    exact = by_definition(source, down, right)

    # Half a grey value of rounding, and a little for what float64 loses in either order of summation.
    assert np.abs(average(source, down, right).astype(float) - exact).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("step", [2, 3, 16, 17, 33, 40])
def test_whole_steps_are_averaged_in_whole_numbers_and_rounded_half_up(step):
    source = np.random.default_rng(step).integers(0, 256, (3 * step, 2 * step), dtype=np.uint8)

    got = average(source, Boxes(0.0, float(step), 3), Boxes(0.0, float(step), 2))

    sums = source.reshape(3, step, 2, step).astype(np.int64).sum((1, 3))
    np.testing.assert_array_equal(got, (2 * sums + step * step) // (2 * step * step))


def test_white_stays_white_at_every_step():
    for step in (1.0, 1.7, 16.0, 100.0, 257.3):
        boxes = Boxes.snapped(0.3, step, 2)
        white = np.full((boxes.last - boxes.first,) * 2, 255, np.uint8)
        assert (average(white, boxes, boxes) == 255).all()


def test_boxes_that_only_rounding_keeps_from_whole_pixels_are_whole():
    assert Boxes.snapped(2.9999999999, 2.0000000001, 4).whole
    assert Boxes.snapped(2.9999999999, 2.0000000001, 4).last == 11
