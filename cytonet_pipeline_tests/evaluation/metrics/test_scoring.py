"""Scores, against scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score, top_k_accuracy_score

from cytonet_pipeline.evaluation.metrics.scoring import (
    area_scores,
    confusion,
    count_patches,
    in_top,
    scores,
    scores_by_obliquity,
)
from cytonet_pipeline.scores import SCORES


@pytest.fixture
def predictions():
    """Eight classes, of which two never occur in the split although they are predicted."""
    random = np.random.default_rng(3)
    area = random.choice([1, 2, 3, 5, 8, 9], size=600)
    predicted = np.where(random.random(600) < 0.6, area, random.choice([1, 2, 3, 4, 5, 7, 8, 9], size=600))
    return pd.DataFrame(
        {"split": "seen_brains", "area": area, "predicted_area": predicted, "in_top": random.random(600) < 0.9}
    )


def test_scores_are_those_of_scikit_learn(predictions):
    scored = scores(predictions)

    true, predicted = predictions["area"], predictions["predicted_area"]
    present = np.unique(true)
    assert scored["accuracy"] == pytest.approx((true == predicted).mean())
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        assert scored["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(true, predicted))
    assert scored["macro_f1"] == pytest.approx(f1_score(true, predicted, labels=present, average="macro"))
    assert scored["weighted_f1"] == pytest.approx(f1_score(true, predicted, average="weighted"))
    assert scored["top5_accuracy"] == pytest.approx(predictions["in_top"].mean())


def test_areas_that_do_not_occur_are_not_averaged_over(predictions):
    """scikit-learn's default would count them as zeros, and penalise a classifier for areas that were not scored."""
    with_absent = f1_score(predictions["area"], predictions["predicted_area"], average="macro", zero_division=0)

    assert scores(predictions)["macro_f1"] > with_absent


def test_scores_of_groups_counted_together_are_those_of_all_patches(predictions):
    """The intervals resample groups of patches: counted together, groups have to score like their patches."""
    areas = np.unique(predictions["area"])
    groups = np.arange(len(predictions)) % 7
    counts = count_patches(predictions, groups, areas).resampled(np.ones((1, 7)))

    for name, value in scores(predictions).items():
        assert counts.scores()[name][0] == pytest.approx(value), name


def test_a_group_counted_twice_scores_like_its_patches_doubled(predictions):
    areas = np.unique(predictions["area"])
    groups = np.arange(len(predictions)) % 3
    counts = count_patches(predictions, groups, areas).resampled(np.array([[2, 0, 1]]))

    doubled = pd.concat([predictions[groups == 0], predictions[groups == 0], predictions[groups == 2]])
    for name, value in scores(doubled).items():
        assert counts.scores()[name][0] == pytest.approx(value), name


def test_top_five_agrees_with_scikit_learn_where_there_are_no_ties():
    random = np.random.default_rng(0)
    classes = np.array([2, 3, 5, 7, 11, 13, 17, 19])
    probabilities = random.dirichlet(np.ones(8), size=500)
    areas = random.choice(classes, size=500)

    expected = top_k_accuracy_score(areas, probabilities, k=5, labels=classes)

    assert in_top(probabilities, classes, areas).mean() == pytest.approx(expected)


def test_an_area_without_any_vote_is_no_top_five_hit():
    """In k-NN most areas get no vote: ties at zero would be hits by their place in the list."""
    probabilities = np.array([[1.0, 0, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0, 0]])

    assert in_top(probabilities, np.arange(1, 7), np.array([6, 2])).tolist() == [False, True]


def test_no_predictions_have_no_scores():
    nothing = pd.DataFrame({"area": [], "predicted_area": [], "in_top": []})

    assert all(np.isnan(value) for value in scores(nothing).values())
    assert tuple(scores(nothing)) == tuple(SCORES)


def test_confusion_contains_every_patch_once(predictions):
    table = confusion(predictions)

    matrix = confusion_matrix(predictions["area"], predictions["predicted_area"], labels=range(1, 10))
    assert table["n_patches"].sum() == len(predictions)
    for row in table.itertuples():
        assert matrix[row.area - 1, row.predicted_area - 1] == row.n_patches


def test_area_scores_average_to_the_macro_f1(predictions):
    table = area_scores(predictions, {1: "4a"})

    assert table["f1"].mean() == pytest.approx(scores(predictions)["macro_f1"])
    assert table.set_index("area").loc[[1, 2], "name"].tolist() == ["4a", "area 2"]


def test_thirds_of_obliquity_contain_every_patch_once():
    random = np.random.default_rng(0)
    angles = np.where(random.random(900) < 0.1, np.nan, random.uniform(0, 90, 900))
    area = random.integers(1, 5, 900)
    right = pd.DataFrame({"split": "seen_brains", "area": area, "in_top": True, "obliquity_deg": angles})
    right["predicted_area"] = np.where(angles > 60, area % 4 + 1, area)

    table = scores_by_obliquity(right)

    assert table["n_patches"].sum() == np.isfinite(angles).sum()
    assert table["n_patches"].max() - table["n_patches"].min() <= 1
    assert table["accuracy"].tolist()[:2] == [1.0, 1.0]
    assert table["accuracy"].iloc[2] < 0.1
