"""Intervals over blocks of sections, against a loop that resamples patches."""

import numpy as np
import pandas as pd
import pytest

from cytonet_pipeline.evaluation.metrics.intervals import (
    blocks_of,
    blocks_of_brain,
    draw_blocks,
    intervals,
    median_interval,
    resampled_medians,
    share_interval,
)
from cytonet_pipeline.evaluation.metrics.scoring import scores


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


def test_the_interval_of_a_median_equals_that_of_a_loop(predictions):
    """Medians of patches repeated as often as their block was drawn, by numpy."""
    rows = predictions.assign(distance_mm=np.random.default_rng(0).gamma(2, 5, len(predictions)))
    block, brain_of_block = blocks_of(rows, gap_mm=1.0)
    times = draw_blocks(brain_of_block, 60, seed=7)
    expected = [np.median(np.repeat(rows["distance_mm"].to_numpy(), drawn[block])) for drawn in times]

    assert resampled_medians(rows["distance_mm"].to_numpy(), block, times) == pytest.approx(expected, rel=1e-12)
    assert median_interval(rows, 1.0, 60, 7) == pytest.approx(np.quantile(expected, [0.025, 0.975]))
    assert np.isnan(median_interval(rows, 4.0, 60, 7)).all()
    assert np.isnan(resampled_medians(np.array([1.0]), np.array([0]), np.zeros((1, 1), int))).all()


def test_the_interval_of_a_share_equals_that_of_a_loop(predictions):
    hits = (predictions["area"] == predictions["predicted_area"]).to_numpy()
    block, brain_of_block = blocks_of(predictions, gap_mm=1.0)
    drawn = draw_blocks(brain_of_block, 60, seed=7)
    expected = [np.repeat(hits, times[block]).mean() for times in drawn]

    assert share_interval(predictions, hits, 1.0, 60, 7) == pytest.approx(np.quantile(expected, [0.025, 0.975]))
    assert np.isnan(share_interval(predictions, hits, 4.0, 60, 7)).all()
    assert np.isnan(share_interval(predictions[:0], hits[:0], 1.0, 60, 7)).all()
