"""Batches are a function of seed and step, in the stated proportions of the brains."""

import numpy as np
import pytest

from cytonet_pipeline.learning.data.draws import keys, normals, uniforms
from cytonet_pipeline.learning.data.sampling import BatchSampler

COUNTS = {"B01": 700, "B02": 250, "B03": 50}


def sampler(batch_size=64, steps=60, seed=0, floor=0.5, eligible=None):
    brains = np.repeat(list(COUNTS), list(COUNTS.values()))
    ids = np.arange(len(brains), dtype=np.uint64) * np.uint64(977)
    chosen = np.ones(len(brains), bool) if eligible is None else eligible
    return brains, BatchSampler(ids, brains, chosen, batch_size=batch_size, steps=steps, brain_floor=floor, seed=seed)


def test_a_batch_does_not_depend_on_those_before():
    _, walked = sampler()
    _, jumped = sampler()
    for step in range(41):
        batch = walked.batch(step)

    again = jumped.batch(40)

    assert (batch.rows == again.rows).all()
    assert (batch.sample_keys == again.sample_keys).all()


@pytest.mark.parametrize("batch_size", [3, 64])
@pytest.mark.parametrize(("floor", "shares"), [(0.0, (0.7, 0.25, 0.05)), (1.0, (1 / 3, 1 / 3, 1 / 3))])
def test_brains_come_in_the_stated_proportions(batch_size, floor, shares):
    brains, batches = sampler(batch_size=batch_size, steps=400, floor=floor)

    drawn = np.concatenate([batches.batch(step).rows for step in range(400)])

    assert len(drawn) == 400 * batch_size
    drawn_shares = [(brains[drawn] == brain).mean() for brain in COUNTS]
    assert drawn_shares == pytest.approx(shares, abs=0.01)
    assert list(batches.shares.values()) == pytest.approx(shares)


def test_a_patch_comes_again_only_after_all_others_of_its_brain():
    brains, batches = sampler(steps=60)
    drawn = np.concatenate([batches.batch(step).rows for step in range(60)])
    of_brain = drawn[brains[drawn] == "B01"][:700]

    assert len(np.unique(of_brain)) == 700


def test_an_epoch_has_its_own_order_and_a_seed_too():
    brains, batches = sampler(steps=400)
    drawn = np.concatenate([batches.batch(step).rows for step in range(400)])
    of_brain = drawn[brains[drawn] == "B03"]

    assert (np.sort(of_brain[:50]) == np.sort(of_brain[50:100])).all()
    assert (of_brain[:50] != of_brain[50:100]).any()
    assert (sampler(seed=1)[1].batch(0).rows != sampler(seed=0)[1].batch(0).rows).any()


def test_only_eligible_patches_are_drawn():
    eligible = np.arange(sum(COUNTS.values())) % 3 == 0
    _, batches = sampler(eligible=eligible)

    assert all(eligible[batches.batch(step).rows].all() for step in range(60))


def test_ranks_share_a_batch_without_overlap_and_each_sees_every_brain():
    brains, batches = sampler()
    whole = batches.batch(7)

    parts = [whole.of_rank(rank, 4) for rank in range(4)]

    assert sorted(np.concatenate([part.rows for part in parts])) == sorted(whole.rows)
    assert all(len(np.unique(brains[part.rows])) == 3 for part in parts)


def test_a_patch_seen_twice_is_augmented_twice():
    _, batches = sampler(batch_size=400, steps=2)
    drawn = batches.batch(0)

    assert len(np.unique(drawn.rows)) < len(drawn.rows)
    assert len(np.unique(drawn.sample_keys)) == len(drawn.sample_keys)


def test_uniform_numbers_are_uniform_and_unrelated():
    u = uniforms(keys("test", 3, np.arange(20000)), 4)

    assert u.min() >= 0
    assert u.max() < 1
    assert u.mean(0) == pytest.approx(0.5, abs=0.01)
    assert (np.abs(np.corrcoef(u.T) - np.eye(4)) < 0.03).all()
    assert abs(np.corrcoef(u[:-1, 0], u[1:, 0])[0, 1]) < 0.03


def test_normal_numbers_are_normal():
    from scipy.stats import kstest

    assert kstest(normals("test", 0, 20000), "norm").pvalue > 0.01
