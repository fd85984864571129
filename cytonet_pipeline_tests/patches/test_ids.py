"""Ids, order and curve: stable, without collisions, nested."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cytonet_pipeline.patches import brain_shares, order_of, patch_ids, take_subset
from cytonet_pipeline.patches.ids import morton_of, splitmix64


def test_splitmix64_is_the_published_one():
    """First outputs for the seed 1234567, from the reference implementation (prng.di.unimi.it/splitmix64.c)."""
    golden = 0x9E3779B97F4A7C15
    states = np.array([(1234567 + k * golden) % 2**64 for k in range(3)], dtype=np.uint64)

    assert splitmix64(states).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_ids_never_change():
    """They stand in tables that are kept for years."""
    ids = patch_ids("B20", "1786", np.array([0, 1, 70000]), np.array([0, 0, 65000]))

    assert ids.dtype == np.uint64
    assert ids.tolist() == [17904981485097964743, 10312765455298219335, 3766962789987807769]


def test_a_million_patches_of_two_sections_have_a_million_ids():
    x_px, y_px = (grid.ravel() for grid in np.meshgrid(np.arange(1000), np.arange(500)))

    ids = np.concatenate([patch_ids("B01", sample, x_px, y_px) for sample in ("1", "2")])

    assert len(np.unique(ids)) == 1_000_000


def test_order_is_uniform_and_depends_on_the_seed():
    ids = patch_ids("B01", "1", np.arange(20_000), np.arange(20_000))
    order = order_of(ids, 0)

    assert stats.kstest(order / 2**64, "uniform").pvalue > 1e-3
    assert abs(stats.spearmanr(order, np.arange(20_000)).statistic) < 0.03
    assert abs(stats.spearmanr(order, order_of(ids, 1)).statistic) < 0.03


def test_morton_interleaves_the_bits():
    x, y = np.array([0, 1, 0, 5, 2**32 - 1]), np.array([0, 0, 1, 6, 2**32 - 1])

    expected = [
        sum(((a >> k & 1) << 2 * k) | ((b >> k & 1) << 2 * k + 1) for k in range(32))
        for a, b in zip(x.tolist(), y.tolist(), strict=True)
    ]
    assert morton_of(x, y).tolist() == expected


@pytest.fixture
def three_brains() -> pd.DataFrame:
    sizes = {"B01": 6000, "B02": 3500, "B03": 500}
    frames = []
    for brain, n in sizes.items():
        ids = patch_ids(brain, "1", np.arange(n), np.arange(n))
        frames.append(pd.DataFrame({"patch_id": ids, "brain": brain, "order": order_of(ids, 0)}))
    return pd.concat(frames, ignore_index=True)


@pytest.mark.parametrize("floor", [0.0, 0.5, 1.0])
def test_subsets_contain_each_other(three_brains, floor):
    sizes = [1, 2, 10, 333, 334, 1000, 2000, 5000, 9999, 10_000, 20_000]
    subsets = [set(take_subset(three_brains, n, floor)["patch_id"]) for n in sizes]

    assert [len(s) for s in subsets] == [min(n, 10_000) for n in sizes]
    assert all(small <= large for small, large in itertools.pairwise(subsets))


def test_the_smallest_brain_gets_its_floor_and_brains_follow_order_within(three_brains):
    taken = take_subset(three_brains, 600, 0.5)

    shares = brain_shares(pd.Series({"B01": 6000, "B02": 3500, "B03": 500}), 0.5)
    np.testing.assert_allclose(shares, 1 / 6 + np.array([0.3, 0.175, 0.025]))
    counts = taken["brain"].value_counts().sort_index()
    np.testing.assert_allclose(counts, 600 * shares, atol=1)
    b01 = three_brains[three_brains["brain"] == "B01"]
    assert set(taken.loc[taken["brain"] == "B01", "order"]) == set(b01["order"].nsmallest(counts["B01"]))


def test_floor_one_means_equal_parts_and_a_brain_that_is_used_up_leaves_its_part(three_brains):
    counts = take_subset(three_brains, 3000, 1.0)["brain"].value_counts()

    assert counts["B03"] == 500
    assert abs(counts["B01"] - counts["B02"]) <= 1


def test_a_subset_does_not_depend_on_the_order_of_rows(three_brains):
    shuffled = three_brains.sample(frac=1, random_state=0)

    assert set(take_subset(shuffled, 777, 0.5)["patch_id"]) == set(take_subset(three_brains, 777, 0.5)["patch_id"])
