"""Pairs of encoders on the same resampled blocks, and Holm's correction, against loops from the formulas."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cytonet_pipeline.evaluation.metrics.intervals import blocks_of, draw_blocks
from cytonet_pipeline.evaluation.metrics.scoring import macro_f1
from cytonet_pipeline.evaluation.table.comparisons import compare_all, holm, smallest_corrected_p
from cytonet_pipeline.evaluation.table.entry import Entry, Resampling


def entry(rows, encoder="a", protocol="knn", **different):
    of_all = {"method": "cytonet", "dataset": "d", "held_out": "B20", "labels_per_area": 0, "draw": 0}
    return Entry(encoder, protocol=protocol, rows=rows, **({**of_all, "classes": (1, 2, 3, 4, 5)} | different))


def compared(a, b, gap_mm=1.0, n=100):
    """The only row of two sets of predictions."""
    (row,) = compare_all([entry(a, "a"), entry(b, "b")], Resampling(gap_mm, n, 0)).to_dict("records")
    return row


def guessed(predictions, seed):
    areas = predictions["predicted_area"].sample(frac=1, random_state=seed).to_numpy()
    return predictions.assign(predicted_area=areas)


def test_an_encoder_equals_itself(predictions):
    row = compared(predictions, predictions.sample(frac=1, random_state=0))

    assert row["difference"] == row["difference_low"] == row["difference_high"] == 0
    assert row["p"] == 1.0


def test_a_better_encoder_is_distinguished_from_a_worse_one(predictions):
    row = compared(predictions.assign(predicted_area=predictions["area"]), predictions, n=200)

    assert row["difference_low"] > 0
    assert row["p"] == pytest.approx(2 / 201)


def test_a_comparison_equals_a_loop_over_resampled_patches(predictions):
    """Both encoders see the same blocks in each resampling: the loop repeats patches and scores with scikit-learn."""
    other = predictions.assign(
        predicted_area=np.where(predictions["patch_id"] % 9 == 0, 1, predictions["predicted_area"])
    )
    block, brain_of_block = blocks_of(predictions, 1.0)
    differences = []
    for times in draw_blocks(brain_of_block, 40, seed=0):
        a, b = (rows.loc[np.repeat(rows.index, times[block])] for rows in (predictions, other))
        differences.append(macro_f1(a["area"], a["predicted_area"]) - macro_f1(b["area"], b["predicted_area"]))
    below, above = (np.array(differences) <= 0).sum(), (np.array(differences) >= 0).sum()

    row = compared(predictions, other, n=40)

    assert [row["difference_low"], row["difference_high"]] == pytest.approx(np.quantile(differences, [0.025, 0.975]))
    assert row["p"] == pytest.approx(min(1, 2 * (min(below, above) + 1) / 41))


def test_too_few_blocks_give_a_difference_without_interval(predictions):
    row = compared(predictions, predictions, gap_mm=4.0)

    assert row["difference"] == 0
    assert np.isnan([row["difference_low"], row["difference_high"], row["p"], row["p_holm"]]).all()
    assert row["n_family"] == 0


def test_only_patches_scored_for_both_are_compared(predictions):
    assert compared(predictions.iloc[:900], predictions.iloc[300:])["n_patches"] == 600


def test_every_pair_is_corrected_for_the_others_of_its_family(predictions):
    worse = guessed(predictions, 0)
    entries = [entry(predictions, "a"), entry(predictions, "b"), entry(worse, "c"), entry(predictions, "a", "logistic")]

    table = compare_all(entries, Resampling(1.0, 100, 0))

    assert table[["encoder_a", "encoder_b"]].values.tolist() == [["a", "b"], ["a", "c"], ["b", "c"]]
    assert table["p_holm"].tolist() == pytest.approx([1.0, 6 / 101, 6 / 101])
    assert table["n_family"].tolist() == [3, 3, 3]


@pytest.mark.parametrize("key", ["dataset", "held_out", "protocol", "labels_per_area", "draw"])
def test_unlike_encoders_are_not_compared(predictions, key):
    """One that never saw B01 and one that never saw B20 learned from other sections: no pair, and no larger family."""
    other = replace(entry(predictions, "b"), **{key: 3 if key in ("labels_per_area", "draw") else "other"})

    assert compare_all([entry(predictions, "a"), other], Resampling(1.0, 20, 0)).empty


def test_classifiers_of_other_areas_are_left_out_with_the_reason(predictions):
    entries = [entry(predictions, "a"), entry(predictions, "b", classes=(1, 2)), entry(predictions, "c")]

    table = compare_all(entries, Resampling(1.0, 20, 0)).set_index(["encoder_a", "encoder_b"])

    assert table.loc[("a", "b"), "left_out"] == "they know other areas (5 and 2)"
    assert np.isnan(table.loc[("a", "b"), "p"])
    assert table.loc[("a", "c"), "left_out"] == ""
    assert (table["n_family"] == 1).all()


def test_borders_and_retrieval_are_compared_as_families_of_their_own(predictions):
    """The difference of medians; at borders only the patches near one count."""
    random = np.random.default_rng(0)
    at_borders = predictions.assign(border_mm=random.uniform(0, 9, len(predictions)))
    keys = ["patch_id", "split", "brain", "sample", "position_mm"]
    mm = predictions[keys].assign(distance_mm=random.gamma(2, 5, len(predictions)))
    entries = [entry(at_borders, name) for name in "ab"]
    entries += [entry(rows, name, "retrieval_other_brain", classes=())
                for name, rows in (("a", mm), ("b", mm.assign(distance_mm=mm["distance_mm"] + 3)))]  # fmt: skip

    table = compare_all(entries, Resampling(1.0, 50, 0)).set_index("measure")

    assert table.index.tolist() == ["macro_f1", "border_macro_f1", "retrieval_mm"]
    assert table.loc["border_macro_f1", "n_patches"] == (at_borders["border_mm"] <= 3).sum()
    assert table.loc["retrieval_mm", "value_a"] == pytest.approx(mm["distance_mm"].median())
    assert table.loc["retrieval_mm", "difference"] == pytest.approx(-3)
    assert table.loc["retrieval_mm", "difference_high"] == pytest.approx(-3)
    assert (table["n_family"] == 1).all()


def test_families_that_cannot_become_significant_are_named():
    """With 99 resamplings p is 0.02 at the least: of three tests none can fall below 0.06."""
    rows = pd.DataFrame({"measure": "macro_f1", "protocol": ["knn", "knn", "logistic"], "split": "unseen_brain"})

    weak = smallest_corrected_p(rows.assign(n_family=[3, 3, 2]), n=99)

    assert weak["protocol"].tolist() == ["knn"]
    assert weak["smallest"].tolist() == pytest.approx([0.06])


def test_holm_steps_down_as_in_the_textbook():
    """Worked example: p = 0.01, 0.04, 0.03, 0.005 with four tests."""
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert np.isnan(holm(np.array([np.nan, 0.5]))[0])
    assert holm(np.array([np.nan, 0.5]))[1] == 0.5


def test_holm_equals_a_loop_from_the_formula():
    """The i-th smallest p is at the least (m - j + 1) p_j for every j up to i, and at most 1."""
    random = np.random.default_rng(0)
    for size in (1, 2, 7, 30):
        p = np.round(random.beta(0.4, 3, size), 2)
        ordered = sorted(p)
        expected = [min(1.0, max((size - j) * ordered[j] for j in range(size) if ordered[j] <= value)) for value in p]

        assert holm(p) == pytest.approx(expected, abs=1e-15)
