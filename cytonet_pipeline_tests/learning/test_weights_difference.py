"""Two files of weights: equal bit for bit, or how far apart."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from cytonet_pipeline.learning.weights_difference import compare_weights


@pytest.fixture
def compared(tmp_path):
    def compare(one, other):
        for name, tensors in (("a.safetensors", one), ("b.safetensors", other)):
            save_file({key: np.asarray(value, np.float32) for key, value in tensors.items()}, tmp_path / name)
        return compare_weights(tmp_path / "a.safetensors", tmp_path / "b.safetensors")

    return compare


def test_equal_weights_agree(compared):
    found = compared({"a": [1, 2], "b": []}, {"a": [1, 2], "b": []})

    assert found.agrees
    assert found.text == "a.safetensors: all 2 tensors agree bit for bit"


def test_the_distance_is_that_of_a_loop_in_float64(compared):
    one, other = {"a": [3.0, 4.0], "b": [0.0]}, {"a": [3.0, 4.5], "b": [0.25]}

    found = compared(one, other)

    squares = sum((x - y) ** 2 for name in one for x, y in zip(one[name], other[name], strict=True))
    assert (found.largest, found.worst, found.identical) == (0.5, "a", 0)
    assert found.relative == pytest.approx((squares / 25.0) ** 0.5)
    assert not found.agrees


def test_other_bits_of_equal_numbers_and_numbers_that_are_none_do_not_agree(compared):
    assert not compared({"a": [0.0]}, {"a": [-0.0]}).agrees
    assert not compared({"a": [1.0], "b": [2.0]}, {"a": [np.nan], "b": [2.0]}).agrees


def test_tensors_of_one_file_only_are_named(compared):
    found = compared({"a": [1.0], "b": [1.0]}, {"a": [1.0, 1.0], "c": [1.0]})

    assert found.only_in_one == ("a", "b", "c")
    assert not found.agrees
