"""Sampling: the same density per mm³ of brain for any sections, masks and scans."""

import numpy as np
import pytest
from scipy import ndimage, stats

from cytonet_pipeline.patches import build_index, cortex_points
from cytonet_pipeline.patches.masks import CortexMask
from cytonet_pipeline.patches.sampling import draw_positions, number_of_patches, section_generator
from cytonet_pipeline.registration import DisplacementField
from cytonet_pipeline_tests.patches.slab import BLOCK, SLAB_MM2, THICK_MM, WIDTH_MM, slab_brain

UNEVEN_MM = [0.0, 1.0, 1.5, 4.0, 6.0, 6.5]
REPRESENTED_MM = [1.0, 0.75, 1.5, 2.25, 1.25, 0.5]


def stretching_warp() -> DisplacementField:
    """Stretch and compress scan x in 0 … 20 mm: x → x + 2 sin(2πx / 20), a scale between 0.37 and 1.63."""
    x_mm = np.arange(-2.0, 23.0, 0.1)
    shift = np.repeat((2 * np.sin(2 * np.pi * x_mm / WIDTH_MM))[:, None], 40, axis=1)
    to_mm = np.array([[0.1, 0, -2.0], [0, 0.5, -2.0], [0, 0, 1]])
    return DisplacementField(np.stack([shift, np.zeros_like(shift)]), to_mm)


def test_density_is_the_same_whatever_the_gaps_and_the_masks_resolution(tmp_path):
    slab = slab_brain(tmp_path, UNEVEN_MM, mask_px=[1, 2, 5, 10, 20, 5])

    index = build_index(*slab.arguments())

    counts = index.groupby("section").size().to_numpy()
    expected = BLOCK.density_per_mm3 * SLAB_MM2 * np.array(REPRESENTED_MM)
    assert np.all(np.abs(counts - expected) < 1)


@pytest.mark.parametrize("px_per_mm", [1, 3, 20])
def test_positions_are_uniform_over_the_mask(tmp_path, px_per_mm):
    """Chi-square over a grid that meets neither the mask's pixels nor their borders."""
    slab = slab_brain(tmp_path, [0.0, 8.0], mask_px=[px_per_mm] * 2)

    index = build_index(*slab.arguments())

    cells, *_ = np.histogram2d(index["brain_x_mm"], index["brain_z_mm"], bins=[13, 7], range=[[-10, 10], [0, THICK_MM]])
    assert stats.chisquare(cells.ravel()).pvalue > 1e-3
    assert cells.sum() == len(index)


def test_every_region_of_the_brain_has_the_same_density_whatever_resolution_gaps_and_size(tmp_path):
    """Chi-square over slabs of sections and cells within them, against their volume in the brain and nothing else."""
    slab = slab_brain(tmp_path, UNEVEN_MM, mask_px=[1, 2, 5, 10, 20, 3], warp=stretching_warp())
    wide = slab_brain(tmp_path, UNEVEN_MM, mask_px=[2, 1, 20, 5, 3, 10], scale=1.3, name="B02")

    for brain, width_mm in ((slab, WIDTH_MM), (wide, 1.3 * WIDTH_MM)):
        index = build_index(*brain.arguments(BLOCK.model_copy(update={"density_per_mm3": 8})))
        counts = [
            np.histogram(rows["brain_x_mm"], bins=9, range=(-10, width_mm - 10))[0]
            for _, rows in index.groupby("section")
        ]
        volumes = np.repeat(np.array(REPRESENTED_MM)[:, None], 9, axis=1)
        expected = volumes / volumes.sum() * np.sum(counts)
        assert stats.chisquare(np.ravel(counts), expected.ravel()).pvalue > 1e-3
        # The same test sees sections that are counted instead of weighed by their gaps.
        assert stats.chisquare(np.ravel(counts), np.full(54, np.mean(counts))).pvalue < 1e-9


def test_the_share_of_one_region_is_that_of_its_volume(tmp_path):
    """Binomial, the simplest case: the left third of the brain has a third of the patches."""
    index = build_index(*slab_brain(tmp_path, UNEVEN_MM, mask_px=[1, 2, 5, 10, 20, 3]).arguments())

    left = int((index["brain_x_mm"] < -10 + WIDTH_MM / 3).sum())
    assert stats.binomtest(left, len(index), 1 / 3).pvalue > 1e-3


def test_no_patch_is_drawn_twice(tmp_path):
    """At a density at which chance alone would draw many places of 10 µm twice."""
    block = BLOCK.model_copy(update={"density_per_mm3": 400})

    index = build_index(*slab_brain(tmp_path, [0.0, 2.0]).arguments(block))

    assert len(index) > 100_000
    assert not index.duplicated(["sample", "x_px", "y_px"]).any()
    assert index["patch_id"].is_unique


def test_a_warped_section_is_uniform_in_the_brain_not_in_the_scan(tmp_path):
    slab = slab_brain(tmp_path, [0.0, 8.0], warp=stretching_warp())

    index = build_index(*slab.arguments())

    in_brain, _ = np.histogram(index["brain_x_mm"], bins=15, range=(-10, 10))
    in_scan, _ = np.histogram(index["x_px"], bins=15, range=(0, 2000))
    assert stats.chisquare(in_brain).pvalue > 1e-3
    assert stats.chisquare(in_scan).pvalue < 1e-6
    assert abs(len(index) - 2 * BLOCK.density_per_mm3 * SLAB_MM2 * 8) < 0.01 * len(index)


def test_a_shrunken_section_gets_patches_for_its_size_in_the_brain(tmp_path):
    natural = build_index(*slab_brain(tmp_path, [0.0, 2.0]).arguments())
    shrunken = build_index(*slab_brain(tmp_path, [0.0, 2.0], scale=1.5).arguments())

    assert abs(len(shrunken) / len(natural) - 1.5**2) < 0.01


def test_rounding_keeps_the_mean_and_never_falls():
    numbers = [number_of_patches(3.3, section_generator(0, "B01", str(k), "count")) for k in range(4000)]

    assert set(numbers) == {3, 4}
    assert abs(np.mean(numbers) - 3.3) < 0.03
    rising = [number_of_patches(e, section_generator(0, "B01", "1", "count")) for e in np.arange(0, 5, 0.1)]
    assert rising == sorted(rising)


def test_fewer_positions_are_the_first_of_more():
    mask = CortexMask(np.ones((30, 40), dtype=bool), (0.5, 0.5))
    area = np.full(1200, 0.25)

    few, many = (draw_positions(mask, area, n, 10.0, section_generator(0, "B01", "1", "p")) for n in (700, 5000))

    assert np.array_equal(few, many[:700])
    assert len(np.unique(many, axis=0)) == 5000


def test_a_mask_without_room_gives_every_place_once():
    mask = CortexMask(np.ones((2, 2), dtype=bool), (0.02, 0.02))

    places = draw_positions(mask, np.full(4, 4e-4), 1000, 10.0, section_generator(0, "B01", "1", "p"))

    assert sorted(map(tuple, places.tolist())) == [(x, y) for x in range(4) for y in range(4)]


def test_another_mask_changes_its_own_section_alone(tmp_path):
    (tmp_path / "other").mkdir()
    before = build_index(*slab_brain(tmp_path, UNEVEN_MM).arguments())
    after = build_index(*slab_brain(tmp_path / "other", UNEVEN_MM, mask_px=[5, 5, 7, 5, 5, 5]).arguments())

    same = ~before["sample"].eq("1002"), ~after["sample"].eq("1002")
    assert before[same[0]].reset_index(drop=True).equals(after[same[1]].reset_index(drop=True))
    assert not before[~same[0]].reset_index(drop=True).equals(after[~same[1]].reset_index(drop=True))


def test_a_withdrawn_section_leaves_its_neighbours_patches_and_adds_some(tmp_path):
    slab = slab_brain(tmp_path, UNEVEN_MM)
    before = build_index(*slab.arguments()).groupby("sample")["patch_id"].agg(set)
    slab.sections.loc[2, "status"] = "withdrawn"

    after = build_index(*slab.arguments()).groupby("sample")["patch_id"].agg(set)

    assert "1002" not in after.index
    assert all(after[s] == before[s] for s in ("1000", "1004", "1005"))
    assert all(after[s] > before[s] for s in ("1001", "1003"))


def test_a_tilted_section_changes_the_number_of_its_two_neighbours_alone(tmp_path):
    slab = slab_brain(tmp_path, UNEVEN_MM)
    before = build_index(*slab.arguments()).groupby("sample")["patch_id"].agg(set)
    tilted = slab_brain(tmp_path, UNEVEN_MM, tilt_deg=10).chain.sections["1002"]
    slab.chain.sections["1002"] = tilted

    after = build_index(*slab.arguments()).groupby("sample")["patch_id"].agg(set)

    assert all(after[s] == before[s] for s in ("1000", "1004", "1005"))
    assert after["1002"] != before["1002"] or after["1001"] != before["1001"]


def test_other_brains_do_not_change_a_byte(tmp_path):
    block = BLOCK.model_copy(update={"held_out": "B07"})
    alone = build_index(*slab_brain(tmp_path, [0.0, 1.0, 2.0]).arguments())
    beside = build_index(*slab_brain(tmp_path, [0.0, 1.0, 2.0]).arguments(block))

    assert alone.equals(beside)


def test_midline_sampling_keeps_to_the_middle_of_the_cortex(tmp_path):
    block = BLOCK.model_copy(update={"sampling": "midline"})

    index = build_index(*slab_brain(tmp_path, [0.0, 2.0]).arguments(block))

    assert abs(len(index) - 2 * 2 * SLAB_MM2 * BLOCK.density_per_mm3) <= 2
    assert index["depth"].between(0.395, 0.605).all()
    assert stats.kstest((index["depth"] - 0.4) / 0.2, "uniform").pvalue > 1e-3


def test_a_section_without_a_mask_is_sampled_where_the_reference_has_cortex(tmp_path):
    slab = slab_brain(tmp_path, [0.0, 2.0], masked=False)

    index = build_index(*slab.arguments())

    assert {record["mask"] for record in index.attrs["sections"].values()} == {"derived"}
    assert abs(len(index) - 2 * 2 * SLAB_MM2 * BLOCK.density_per_mm3) <= 2
    assert index["depth"].between(0, 1, inclusive="neither").mean() > 0.99


def test_the_share_of_a_square_inside_the_mask_is_that_of_a_box_filter():
    rng = np.random.default_rng(0)
    inside = rng.random((40, 50)) < 0.5
    rows, columns = (grid.ravel() for grid in np.mgrid[0:40, 0:50])

    share = CortexMask(inside, (0.2, 0.2)).share_of_squares((columns + 0.5) * 0.2, (rows + 0.5) * 0.2, 1.4)

    expected = ndimage.uniform_filter(inside.astype(float), size=7, mode="constant")
    np.testing.assert_allclose(share, expected.ravel(), atol=1e-6)


def test_quality_points_cover_the_brains_own_masks_and_no_derived_ones(tmp_path):
    slab = slab_brain(tmp_path, UNEVEN_MM)

    points_mm = cortex_points(slab.brain, slab.sections, slab.chain, 5000)

    assert abs(len(points_mm) - 5000) < 10
    counts = [np.isclose(points_mm[:, 1], y).sum() for y in UNEVEN_MM]
    assert stats.chisquare(counts, np.array(REPRESENTED_MM) / sum(REPRESENTED_MM) * len(points_mm)).pvalue > 0.5
    unmasked = slab_brain(tmp_path, [0.0, 2.0], masked=False)
    assert len(cortex_points(unmasked.brain, unmasked.sections, unmasked.chain, 100)) == 0
