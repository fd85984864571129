"""Draws of few labels."""

import numpy as np
import pandas as pd
import pytest

from cytonet_pipeline.evaluation.probes.label_draws import draw_order, labels_of_draw


@pytest.fixture
def rows():
    """Three brains of very different size, ten sections each, four areas."""
    random = np.random.default_rng(0)
    brain = np.repeat(["B01", "B02", "B03"], [3000, 600, 150])
    return pd.DataFrame(
        {
            "brain": brain,
            "sample": random.integers(0, 10, len(brain)).astype(str),
            "annotated_area": random.integers(1, 5, len(brain)),
            "order": random.integers(0, 2**64, len(brain), dtype=np.uint64),
        },
        index=random.permutation(len(brain)),
    )


@pytest.mark.parametrize("draw", [0, 3])
def test_ten_labels_lie_within_a_hundred_of_the_same_draw(rows, draw):
    ten, hundred = labels_of_draw(rows, 10, draw), labels_of_draw(rows, 100, draw)

    assert ten.sum() == 40
    assert hundred.sum() == 400
    assert (hundred | ~ten).all()


def test_labels_come_from_all_brains_and_many_sections(rows):
    """Ten labels of the largest brain's one section would measure that section."""
    ten = rows[labels_of_draw(rows, 10, 1)]

    for _, of_area in ten.groupby("annotated_area"):
        assert of_area["brain"].value_counts().tolist() == [4, 3, 3]
        assert (of_area.groupby("brain")["sample"].nunique() == of_area.groupby("brain").size()).all()


def test_draws_differ(rows):
    drawn = [labels_of_draw(rows, 10, draw) for draw in range(5)]

    assert len({tuple(np.flatnonzero(d)) for d in drawn}) == 5


def test_a_draw_does_not_depend_on_the_order_of_rows(rows):
    shuffled = rows.sample(frac=1, random_state=1)

    assert set(rows["order"][labels_of_draw(rows, 10, 2)]) == set(shuffled["order"][labels_of_draw(shuffled, 10, 2)])


def test_an_area_with_fewer_labels_gives_all_it_has(rows):
    few = rows[(rows["annotated_area"] != 4) | (rows.groupby("annotated_area").cumcount() < 3)]

    assert labels_of_draw(few, 10, 0).sum() == 33


def test_zero_means_all(rows):
    assert labels_of_draw(rows, 0, 0).all()


def test_orders_of_draws_are_distinct_and_unrelated():
    order = np.arange(10_000, dtype=np.uint64)

    first, second = (draw_order(order, draw) for draw in (1, 2))

    assert len(np.unique(first)) == len(order)
    assert abs(np.corrcoef(first.astype(float), second.astype(float))[0, 1]) < 0.05
    assert np.array_equal(draw_order(order, 0), order)
