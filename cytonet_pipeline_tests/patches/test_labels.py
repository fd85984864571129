"""Which annotated patches are learned from, and draws of few labels."""

import numpy as np
import pandas as pd
import pytest

from cytonet_pipeline.patches import draw_order, labelled_rows, labels_of_draw, split_for_training


def test_without_validation_whole_training_sections_are_set_aside():
    random = np.random.default_rng(0)
    rows = pd.DataFrame(
        {
            "brain": np.repeat(["B01", "B02"], 400),
            "sample": random.integers(0, 20, 800).astype(str),
            "role": np.where(random.random(800) < 0.2, "seen_brains", "train"),
            "annotated_area": random.integers(1, 4, 800),
        }
    )
    train, validation, source = split_for_training(rows)

    assert source == "carved"
    assert (rows["role"][train | validation] == "train").all()
    sections = rows.assign(train=train, validation=validation)[train | validation].groupby(["brain", "sample"])
    assert (sections["train"].nunique() == 1).all()
    assert sections["validation"].first().groupby("brain").sum().tolist() == [4, 4]


def test_no_area_loses_its_last_training_section_to_validation():
    rows = pd.DataFrame(
        {
            "brain": "B01",
            "sample": np.repeat([f"{s}" for s in range(10)], 5),
            "role": "train",
            "annotated_area": np.repeat([1, 2, 3, 4, 5, 5, 5, 5, 5, 5], 5),
        }
    )
    train, _, _ = split_for_training(rows)

    assert set(rows["annotated_area"][train]) == {1, 2, 3, 4, 5}


def test_orders_that_differ_in_the_last_bit_are_told_apart():
    """As floats they would be ties: 64 bits do not fit into 53."""
    order = np.array([2**63 + 2, 2**63 + 1, 2**63 + 3], dtype=np.uint64)
    rows = pd.DataFrame({"role": "train", "annotated_area": 1, "order": order})

    assert labelled_rows(rows, 1).tolist() == [False, True, False]


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
    """Ten labels from one section of the largest brain would measure that section."""
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


def test_an_area_with_fewer_labels_contributes_all_of_them(rows):
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
