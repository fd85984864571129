"""The whole way from files to the index, on a synthetic brain and on brains with the anatomy of Colin-27."""

import numpy as np
import pytest
from scipy import stats

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.histology import survey
from cytonet_pipeline.patches import build_index, cortex_points
from cytonet_pipeline.patches.masks import derive_mask
from cytonet_pipeline.patches.section_plan import plan_sections
from cytonet_pipeline.registration import ReferenceSpace, resolve_chain
from cytonet_pipeline.settings import DatasetBlock

BLOCK = DatasetBlock(density_per_mm3=0.05, held_out="B20")


@pytest.fixture(scope="module", params=["small_brains", "shared_data"])
def brain(request):
    """Brain, survey, chain, reference."""
    folder = request.getfixturevalue(request.param)
    data = folder / ("brains" if request.param == "small_brains" else "colin27-brains")
    space = folder / "tpl-MNIColin27"
    source = Dataset(data, BLOCK).brain("B02")
    return source, survey(source, BLOCK), resolve_chain(source), ReferenceSpace.load(space)


@pytest.fixture(scope="module")
def index(brain):
    return build_index(*brain, BLOCK)


def test_patches_lie_in_the_cortex_of_the_reference(index):
    assert len(index) > 5000
    assert ((index["depth"] > 0) & (index["depth"] < 1)).mean() > 0.8
    assert (index["atlas_area"] > 0).mean() > 0.9
    assert ((index["ref_x_mm"] < 0) == (index["hemisphere"] == "L")).mean() > 0.97
    assert index["obliquity_deg"].between(0, 90).all()


def test_annotated_areas_are_those_of_the_atlas_where_the_section_is_annotated(brain, index):
    """Of the areas that annotation and atlas both name at a patch, most are the same."""
    reference = brain[3]
    atlas = reference.area_at(index[["ref_x_mm", "ref_y_mm", "ref_z_mm"]].to_numpy(np.float64))
    both = (index["annotated_area"] > 0) & (atlas > 0)

    assert both.sum() > 1000
    assert (index["annotated_area"] == atlas)[both].mean() > 0.8


def test_the_number_of_patches_follows_the_area_of_the_masks(brain, index):
    source, sections, chain, _ = brain
    for section in plan_sections(source, sections, chain):
        mask = section.own_mask()
        area_mm2 = (
            mask.inside.sum() * mask.pixel_mm[0] * mask.pixel_mm[1] * chain.sections[section.sample].in_plane_scale ** 2
        )
        drawn = (index["sample"] == section.sample).sum()
        # A warp moves tissue within the section: it changes the area by a few per cent.
        tolerance = 0.05 if section.warped else 0.0
        expected = BLOCK.density_per_mm3 * area_mm2 * section.represents_mm
        assert abs(drawn - expected) <= 1 + tolerance * expected


def test_every_part_of_the_masks_is_sampled_alike(brain, index):
    """Counts in blocks of the mask against the area of cortex in them."""
    source, sections, chain, _ = brain
    section = next(s for s in plan_sections(source, sections, chain) if not s.warped)
    mask = section.own_mask().inside
    x_mm, y_mm = (index.loc[index["sample"] == section.sample, c] * section.pixel_um / 1000 for c in ("x_px", "y_px"))
    bins = [np.linspace(0, section.height_mm, 9), np.linspace(0, section.width_mm, 9)]
    counts, *_ = np.histogram2d(y_mm, x_mm, bins=bins)
    rows, columns = np.nonzero(mask)
    at_mm = [(rows + 0.5) / mask.shape[0] * section.height_mm, (columns + 0.5) / mask.shape[1] * section.width_mm]
    area, *_ = np.histogram2d(*at_mm, bins=bins)

    enough = area * counts.sum() / area.sum() >= 5
    expected = area[enough] / area[enough].sum() * counts[enough].sum()
    assert stats.chisquare(counts[enough], expected).pvalue > 1e-3


def test_a_derived_mask_covers_what_the_sections_own_mask_does(brain):
    source, sections, chain, reference = brain
    section = plan_sections(source, sections, chain)[2]
    derived = derive_mask(chain, section.sample, reference, section.width_mm, section.height_mm)
    own = section.own_mask()

    rows, columns = np.nonzero(own.inside)
    within = derived.inside[
        ((rows + 0.5) / own.inside.shape[0] * derived.inside.shape[0]).astype(int),
        ((columns + 0.5) / own.inside.shape[1] * derived.inside.shape[1]).astype(int),
    ]
    assert within.mean() > 0.75
    assert 0.7 < derived.inside.mean() / own.inside.mean() < 1.5


def test_quality_points_lie_in_the_cortex_too(brain):
    source, sections, chain, reference = brain

    points_mm = cortex_points(source, sections, chain, 2000)

    depth = reference.depth_at(chain.brain_to_reference(points_mm))
    assert abs(len(points_mm) - 2000) < 20
    assert ((depth > 0) & (depth < 1)).mean() > 0.8
