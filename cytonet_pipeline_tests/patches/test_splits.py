"""Splits: by section, in blocks, with gaps, decided by the brain alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from cytonet_pipeline.patches import assign_splits, build_index
from cytonet_pipeline.patches.section_plan import plane_gaps_mm, represented_mm
from cytonet_pipeline.registration import SectionPlacement
from cytonet_pipeline.settings import DatasetBlock
from cytonet_pipeline_tests.patches.slab import BLOCK as SLAB_BLOCK
from cytonet_pipeline_tests.patches.slab import coronal, slab_brain

BLOCK = DatasetBlock(density_per_mm3=1, held_out="B20")
NAMES = [f"B{k:02}" for k in range(1, 10)]


def series(n: int, spacing_mm: float) -> dict[str, float]:
    return {f"{k:04}": k * spacing_mm for k in range(n)}


def count(roles: dict[str, str], role: str) -> int:
    return list(roles.values()).count(role)


@pytest.mark.parametrize("name", NAMES)
def test_twelve_sections_far_apart_give_three_to_test_one_to_validate_and_the_rest_to_train(name):
    roles = assign_splits(name, series(12, 12.7), BLOCK, "B20", with_validation=True)

    assert [count(roles, r) for r in ("seen_brains", "validation", "gap", "train")] == [3, 1, 0, 8]


@pytest.mark.parametrize("name", NAMES)
def test_four_hundred_close_sections_give_a_fifth_in_three_blocks_and_few_gaps(name):
    roles = assign_splits(name, series(400, 0.3), BLOCK, "B20")

    is_test = np.array([role == "seen_brains" for role in roles.values()])
    blocks = np.sum(np.diff(np.concatenate([[0], is_test])) == 1)
    assert blocks == BLOCK.test_blocks
    assert 76 <= is_test.sum() <= 84
    assert 9 <= count(roles, "gap") <= 18  # 1 mm to either side of three blocks, less at the ends of the series


@pytest.mark.parametrize("n", [4, 5, 6])
@pytest.mark.parametrize("name", NAMES)
def test_a_handful_of_sections_still_gives_one_to_test_and_two_to_train(name, n):
    roles = assign_splits(name, series(n, 5.0), BLOCK, "B20", with_validation=True)

    assert count(roles, "seen_brains") >= 1
    assert count(roles, "train") >= 2


def test_the_unseen_brain_is_unseen_throughout():
    roles = assign_splits("B20", series(30, 1.0), BLOCK, "B20", with_validation=True)

    assert set(roles.values()) == {"unseen_brain"}


def test_validation_is_cut_only_when_asked_for_and_moves_no_test_block():
    without = assign_splits("B01", series(200, 0.5), BLOCK, "B20")
    with_it = assign_splits("B01", series(200, 0.5), BLOCK, "B20", with_validation=True)

    assert count(without, "validation") == 0
    assert 12 <= count(with_it, "validation") <= 20
    assert {s for s, r in without.items() if r == "seen_brains"} == {
        s for s, r in with_it.items() if r == "seen_brains"
    }


def test_blocks_are_staggered_between_brains():
    """Were they at the same height everywhere, no brain would train on that part of the cortex."""
    tests = [
        np.array([r == "seen_brains" for r in assign_splits(n, series(400, 0.3), BLOCK, "").values()]) for n in NAMES
    ]

    assert np.mean(tests, axis=0).max() <= 4 / 9
    assert np.any(tests, axis=0).mean() > 0.9


@pytest.mark.parametrize("spacing_mm", [0.3, 12.7])
def test_three_brains_never_test_the_same_place(spacing_mm):
    tests = [
        np.array([r == "seen_brains" for r in assign_splits(n, series(12, spacing_mm), BLOCK, "").values()])
        for n in NAMES[:3]
    ]

    assert np.sum(tests, axis=0).max() == 1


def test_a_section_withdrawn_from_a_long_series_changes_no_other_role():
    whole = series(400, 0.3)
    before = assign_splits("B03", whole, BLOCK, "B20")
    inner = next(s for k, (s, r) in enumerate(before.items()) if r == "train" and k > 50)

    after = assign_splits("B03", {s: mm for s, mm in whole.items() if s != inner}, BLOCK, "B20")

    changed = [s for s in after if after[s] != before[s]]
    assert len(changed) <= 1  # only one whose middle lay on the border of a block


@settings(max_examples=150, deadline=None)
@given(
    positions=st.lists(st.floats(-100, 100, allow_nan=False).map(lambda mm: round(mm, 3)), min_size=2, max_size=80),
    gap_mm=st.floats(0, 5),
    name=st.sampled_from(NAMES),
    share=st.floats(0.05, 0.5),
    blocks=st.integers(1, 6),
)
def test_nothing_learned_from_lies_within_the_gap_of_anything_tested(positions, gap_mm, name, share, blocks):
    block = BLOCK.model_copy(update={"gap_mm": gap_mm, "test_share": share, "test_blocks": blocks})
    at_mm = {f"{k}": mm for k, mm in enumerate(positions)}

    roles = assign_splits(name, at_mm, block, "B20", with_validation=True)

    def at(*requested: str) -> np.ndarray:
        return np.array([at_mm[s] for s, role in roles.items() if role in requested])

    tested, learned = at("seen_brains"), at("train", "validation")
    assert len(tested) >= 1
    assert list(roles) == list(at_mm)
    assert roles == assign_splits(name, dict(reversed(at_mm.items())), block, "B20", with_validation=True)
    assert not np.any(np.abs(learned[:, None] - tested) <= gap_mm)
    assert not np.any(np.abs(at("train")[:, None] - at("validation")) <= gap_mm)


@settings(max_examples=20, deadline=None)
@given(
    gaps_mm=st.lists(st.floats(0.2, 4.0), min_size=6, max_size=14),
    tilts_deg=st.lists(st.floats(-8, 8), min_size=15, max_size=15),
    gap_mm=st.floats(0.5, 3.0),
    name=st.sampled_from(NAMES),
)
def test_no_training_patch_lies_nearer_to_a_test_section_than_the_gap(
    tmp_path_factory, gaps_mm, tilts_deg, gap_mm, name
):
    """Patches that an encoder sees, in pre-training too, against every place of a test section's field of view.

    Sections are tilted against each other, as in real reconstructions: nearer at their rims than in the middle.
    """
    slab = slab_brain(tmp_path_factory.mktemp("slab"), np.cumsum([0.0, *gaps_mm]).tolist(), name=name)
    for placement, tilt_deg in zip(list(slab.chain.sections.values()), tilts_deg, strict=False):
        matrix = coronal(float(placement.matrix[1, 3]), tilt_deg=tilt_deg)
        slab.chain.sections[placement.sample] = SectionPlacement(placement.sample, matrix)
    block = SLAB_BLOCK.model_copy(update={"gap_mm": gap_mm, "density_per_mm3": 0.3})
    index = build_index(*slab.arguments(block))
    records = index.attrs["sections"]
    positions, reaches = ({s: r[key] for s, r in records.items()} for key in ("position_mm", "reach_mm"))

    for roles in (
        index.groupby("sample")["split"].first().to_dict(),
        assign_splits(name, positions, block, "B20", reach_mm=reaches, with_validation=True),
    ):
        tested = [sample for sample, role in roles.items() if role == "seen_brains"]
        learned = index[index["sample"].map(roles).isin(["train", "validation"])]
        assert tested
        if learned.empty:
            continue
        grid_mm = np.stack(np.meshgrid(np.linspace(0, 20, 81), np.linspace(0, 14, 57)), axis=-1).reshape(-1, 2)
        places_mm = np.concatenate([slab.chain.scan_to_brain(sample, grid_mm) for sample in tested])
        nearest_mm, _ = cKDTree(places_mm).query(learned[["brain_x_mm", "brain_y_mm", "brain_z_mm"]].to_numpy())
        assert nearest_mm.min() > gap_mm


def test_each_section_represents_half_the_gap_to_both_neighbours():
    lengths_mm = represented_mm(np.diff([0.0, 1.0, 3.0, 3.5]))

    np.testing.assert_allclose(lengths_mm, [1.0, 1.5, 1.25, 0.5])
    np.testing.assert_allclose(represented_mm(np.empty(0)), [1.0])


def test_gaps_are_measured_between_planes_whichever_way_their_normals_point():
    centres_mm = np.array([[0.0, 0, 0], [50, 2, -9], [3, 7, 1]])
    normals = np.array([[0.0, 1, 0], [0, -1, 0], [0, 1, 0]])

    np.testing.assert_allclose(plane_gaps_mm(centres_mm, normals), [2, 5])
