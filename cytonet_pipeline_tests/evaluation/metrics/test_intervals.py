"""Intervals over blocks of sections, against a loop that resamples patches."""

import numpy as np
import pandas as pd
import pytest

from cytonet_pipeline.evaluation.metrics.intervals import blocks_of, blocks_of_brain, draw_blocks, intervals
from cytonet_pipeline.evaluation.metrics.scoring import scores
from cytonet_pipeline.evaluation.table.comparisons import compare_all, compare_pair, holm


@pytest.fixture
def predictions():
    """Two brains with 36 scored sections, in six runs."""
    random = np.random.default_rng(1)
    sections = [
        (brain, f"{start + i}", start + 0.3 * i) for brain in ("B01", "B02") for start in (0, 20, 40) for i in range(12)
    ]
    rows = [sections[i] for i in random.integers(0, len(sections), 1500)]
    frame = pd.DataFrame(rows, columns=["brain", "sample", "position_mm"])
    area = random.integers(1, 6, len(frame))
    frame["area"], frame["patch_id"], frame["split"] = area, np.arange(len(frame)).astype(np.uint64), "seen_brains"
    frame["predicted_area"] = np.where(random.random(len(frame)) < 0.7, area, random.integers(1, 6, len(frame)))
    frame["in_top"] = True
    return frame


def test_blocks_are_at_least_as_long_as_the_gap():
    positions_mm = np.arange(0, 10, 0.25)

    blocks = blocks_of_brain(positions_mm, gap_mm=2.0)

    starts_mm = np.array([positions_mm[blocks == b].min() for b in np.unique(blocks)])
    assert len(starts_mm) == 4
    assert (np.diff(starts_mm) >= 2.0).all()


def test_runs_farther_apart_than_the_gap_share_no_block():
    blocks = blocks_of_brain(np.array([10.2, 0.0, 0.4, 10.0, 0.2]), gap_mm=1.0)

    assert blocks.tolist() == [1, 0, 0, 1, 0]


def test_sections_farther_apart_than_the_gap_are_blocks_of_their_own():
    assert blocks_of_brain(np.array([6.0, 0.0, 2.0, 4.0]), gap_mm=1.0).tolist() == [3, 0, 1, 2]


def test_sections_of_one_run_are_never_split_between_blocks(predictions):
    block, brain_of_block = blocks_of(predictions, gap_mm=1.0)

    assert (predictions.assign(block=block).groupby(["brain", "sample"])["block"].nunique() == 1).all()
    assert len(brain_of_block) == block.max() + 1 == 2 * 3 * 3


def test_each_brain_keeps_its_number_of_blocks():
    """Otherwise the interval would also include the choice of brains, of which there are few."""
    times = draw_blocks(np.array([0, 0, 0, 1, 1]), 50, seed=0)

    assert (times[:, :3].sum(axis=1) == 3).all()
    assert (times[:, 3:].sum(axis=1) == 2).all()


def test_intervals_equal_those_of_a_loop_over_resampled_patches(predictions):
    block, brain_of_block = blocks_of(predictions, gap_mm=1.0)
    drawn = []
    for times in draw_blocks(brain_of_block, 60, seed=7):
        rows = [predictions[block == b] for b, n in enumerate(times) for _ in range(n)]
        drawn.append(scores(pd.concat(rows)))
    expected = pd.DataFrame(drawn).quantile([0.025, 0.975])

    result = intervals(predictions, gap_mm=1.0, n=60, seed=7)

    for name, (low, high) in result.items():
        assert [low, high] == pytest.approx(expected[name].tolist()), name


def test_intervals_contain_the_score(predictions):
    low, high = intervals(predictions, 1.0, 500, seed=0)["macro_f1"]

    assert low < scores(predictions)["macro_f1"] < high


def test_fewer_than_ten_blocks_give_no_interval(predictions):
    assert intervals(predictions, gap_mm=4.0, n=100, seed=0) == {}


def test_an_encoder_equals_itself(predictions):
    result = compare_pair(predictions, predictions.sample(frac=1, random_state=0), 1.0, 100, seed=0)

    assert result["difference"] == result["difference_low"] == result["difference_high"] == 0
    assert result["p"] == 1.0


def test_a_better_encoder_is_distinguished_from_a_worse_one(predictions):
    better = predictions.assign(predicted_area=predictions["area"])

    result = compare_pair(better, predictions, 1.0, 200, seed=0)

    assert result["difference_low"] > 0
    assert result["p"] == pytest.approx(2 / 201)


def test_too_few_blocks_give_a_difference_without_interval(predictions):
    result = compare_pair(predictions, predictions, gap_mm=4.0, n=100, seed=0)

    assert result["difference"] == 0
    assert np.isnan([result["difference_low"], result["difference_high"], result["p"]]).all()


def test_only_patches_scored_for_both_are_compared(predictions):
    result = compare_pair(predictions.iloc[:900], predictions.iloc[300:], 1.0, 20, seed=0)

    assert result["n_patches"] == 600


def test_every_pair_is_corrected_for_the_others(predictions):
    worse = predictions.assign(predicted_area=predictions["predicted_area"].sample(frac=1, random_state=0).to_numpy())
    named = {("a", "knn"): predictions, ("b", "knn"): predictions, ("c", "knn"): worse, ("a", "logistic"): predictions}

    table = compare_all(named, 1.0, 100, seed=0)

    assert table[["encoder_a", "encoder_b"]].values.tolist() == [["a", "b"], ["a", "c"], ["b", "c"]]
    assert table["p_holm"].tolist() == pytest.approx([1.0, 6 / 101, 6 / 101])


def test_holm_steps_down_as_in_the_textbook():
    """Worked example: p = 0.01, 0.04, 0.03, 0.005 with four tests."""
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert np.isnan(holm(np.array([np.nan, 0.5]))[0])
    assert holm(np.array([np.nan, 0.5]))[1] == 0.5
