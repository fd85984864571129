"""What tells areas and brains apart: profiles over depth, borders, bends and stains."""

import numpy as np
import pandas as pd
import pytest
import tifffile

from cytonet_pipeline.phantom import cells
from cytonet_pipeline.phantom.areas import AREAS
from cytonet_pipeline.phantom.deform import Bend, shifted_labels
from cytonet_pipeline.phantom.draws import SmoothField, stream
from cytonet_pipeline.phantom.sections import Painter
from cytonet_pipeline_tests.phantom.conftest import SMALL


def test_areas_differ_in_their_profile_but_hardly_in_their_mean_darkness():
    """If darkness gave areas away, grey values alone would do, and nothing would have to be learnt."""
    coverage = np.array([cells.profile_of(name).coverage for name in AREAS])
    mean = coverage.mean(axis=1)
    distance = np.abs(coverage[:, None] - coverage[None]).mean(axis=2)

    assert np.ptp(mean) < 0.2 * mean.mean()
    assert distance[~np.eye(len(AREAS), dtype=bool)].min() > 0.02


def test_areas_of_one_gyrus_are_more_alike_than_others():
    coverage = pd.DataFrame({name: np.log(cells.profile_of(name).coverage) for name in AREAS})
    gyrus = np.array([name.partition("(")[2] for name in AREAS])
    alike = coverage.corr().to_numpy()
    kin = (gyrus[:, None] == gyrus) & ~np.eye(len(AREAS), dtype=bool)

    assert alike[kin].mean() > alike[gyrus[:, None] != gyrus].mean()


@pytest.mark.parametrize("pixel_um", [32.0, 64.0])
def test_drawn_cells_cover_what_was_asked_for(pixel_um):
    shape = (400, 400)
    thrown = cells.throw_cells(
        stream(0, "cover"), np.full(shape, 0.3, np.float32), np.full(shape, 80.0, np.float32), pixel_um
    )

    dark = cells.draw_cells(thrown, shape, pixel_um)

    assert dark.mean() == pytest.approx(0.3, rel=0.15)
    assert 0 <= dark.min() <= dark.max() <= 1


def test_area_borders_wander_by_some_mm_between_brains(reference):
    """Else the position in the reference space would decide the label."""
    first, second = (shifted_labels(reference, 0, brain) for brain in ("B01", "B02"))
    cortex = reference.label > 0

    assert ((first > 0) == cortex).all()
    assert 0.03 < (first != reference.label)[cortex].mean() < 0.4
    assert 0.03 < (first != second)[cortex].mean() < 0.5


def test_a_bend_never_folds_space_and_can_be_undone(reference):
    extent = reference.extent_mm()
    points = stream(1, "points").uniform(*extent, size=(3000, 3))
    step = 0.5 * np.eye(3)
    for brain in ("B01", "B02", "B03", "B20"):
        bend = Bend.draw(stream(0, brain, "bend"), extent)

        jacobian = np.stack([bend(points + s) - bend(points - s) for s in step], axis=2)

        assert np.linalg.det(jacobian).min() > 0.3
        np.testing.assert_allclose(bend(bend.inverse(points)), points, atol=0.01)


def test_brains_look_different(reference):
    stains = [Painter(reference, brain, seed=0, pixel_um=128).stain for brain in ("B01", "B02", "B03", "B20")]

    assert np.ptp([stain.cell for stain in stains]) > 20
    assert len({stain.gamma for stain in stains}) == 4


def test_a_section_does_not_depend_on_which_others_are_painted(reference, brains):
    """Otherwise one more section would change all data, and every digest with it."""
    painter = Painter(reference, "B20", seed=SMALL["seed"], pixel_um=SMALL["pixel_um"])
    plan = painter.plan(SMALL["sections"])[2]

    painted = painter.paint(plan)

    written = tifffile.imread(brains / f"sub-B20/micr/sub-B20_sample-{plan.sample}_stain-merker_BF.tif")
    np.testing.assert_array_equal(painted.scan, written)


def test_a_smooth_field_has_the_strength_and_smoothness_asked_for():
    field = SmoothField.draw(stream(0, "field"), rms=2.0, wavelength_mm=(40, 80), components=3)
    points = stream(0, "at").uniform(-500, 500, size=(20000, 3))

    assert field(points).std(axis=0) == pytest.approx([2, 2, 2], rel=0.1)
    assert np.abs(field(points + 0.5) - field(points - 0.5)).max() < 2.0


def test_streams_are_independent_of_each_other():
    assert stream(0, "B01", "cells", "0001").random() != stream(0, "B01", "cells", "0002").random()
    assert stream(0, "a", "b").random() == stream(0, "a", "b").random()
