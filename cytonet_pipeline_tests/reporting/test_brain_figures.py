"""Figures in the reference: surfaces, transforms, predicted areas."""

import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.registration import ReferenceSpace, resolve_chain
from cytonet_pipeline.reporting.map_drawings import draw_section, volume_figure
from cytonet_pipeline.reporting.map_figures import overlaid_samples
from cytonet_pipeline.reporting.reference_figure import reference_figure
from cytonet_pipeline.reporting.style import paint, save
from cytonet_pipeline.reporting.surface_figure import surface_page, surface_picture, value_range
from cytonet_pipeline.reporting.transform_figure import draw_transform, nearest_sections
from cytonet_pipeline.settings import DatasetBlock

NAMES = pd.DataFrame({"index": [1, 2], "name": ["a", "b"], "color": ["#ff0000", "#0000ff"]})


@pytest.fixture(scope="module")
def reference(small_brains):
    return ReferenceSpace.load(small_brains / "tpl-MNIColin27")


@pytest.fixture(scope="module")
def anterior(reference):
    return {side: reference.surface(side, "white")[0][:, 1].astype(np.float32) for side in "LR"}


def test_the_reference_is_drawn_in_colours_of_its_atlas(reference, tmp_path):
    image = np.asarray(Image.open(reference_figure(reference, tmp_path / "reference.png")).convert("RGB")).astype(int)

    assert (np.ptp(image, axis=2) > 60).mean() > 0.02


def test_anterior_is_on_the_left_of_the_left_lateral_view(reference, anterior, tmp_path):
    """In viridis high is yellow, low is violet: red beats blue where values are high."""
    image = np.asarray(Image.open(surface_picture(reference, anterior, tmp_path / "s.png", "y", "mm")).convert("RGB"))
    left_lateral = image[:, : int(image.shape[1] * 0.22)].astype(int)
    warm = left_lateral[..., 0] - left_lateral[..., 2]
    half = left_lateral.shape[1] // 2

    assert warm[:, :half].mean() > warm[:, half:].mean() + 10


def test_a_surface_page_needs_no_network(reference, anterior, tmp_path):
    page = surface_page(reference, anterior, "L", tmp_path / "s.html", "y").read_text(encoding="utf-8")

    assert not re.search(r"<(script|link)[^>]+(src|href)\s*=\s*[\"']?(https?:)?//", page)


def test_colours_do_not_follow_a_few_extreme_vertices():
    values = np.append(np.linspace(0, 1, 1000), [1e6, np.nan])

    low, high = value_range({"L": values, "R": np.array([np.nan])})

    assert low == pytest.approx(0.02, abs=0.01)
    assert high == pytest.approx(0.98, abs=0.01)


def test_points_are_assigned_to_their_own_section(small_brains):
    block = DatasetBlock(density_per_mm3=0.02, held_out="B20")
    chain = resolve_chain(Dataset(small_brains / "brains", block).brain("B02"))
    samples = list(chain.sections)
    points = np.concatenate([chain.scan_to_brain(sample, np.array([[30.0, 30.0], [80.0, 60.0]])) for sample in samples])

    np.testing.assert_array_equal(nearest_sections(chain, points), np.repeat(samples, 2))


def test_problems_of_a_chain_are_in_its_figure(reference):
    points = reference.cortex_points(60)
    figure = draw_transform(
        reference, points, np.repeat(["1", "2"], 30), ["1", "2"], {"jacobian_min": 0.5}, ["given backwards"], "sub-B01"
    )
    text = " ".join(line.get_text() for axes in figure.axes for line in axes.texts)

    assert "given backwards" in text
    assert "0.5" in text
    assert any("section 2" in axes.get_title() for axes in figure.axes)


def test_outlines_of_sections_are_drawn_over_the_template(reference):
    points = reference.cortex_points(60)
    points[:, 1] = np.repeat([5.0, -20.0], 30)
    turn = np.linspace(0, 2 * np.pi, 50)
    ring = np.stack([30 * np.cos(turn), np.full(50, 5.0), 20 * np.sin(turn)], axis=1)
    figure = draw_transform(
        reference, points, np.repeat(["1", "2"], 30), ["1", "2"], {}, [], "sub-B01", {"1": [ring], "2": []}
    )
    drawn = [axes for axes in figure.axes if "section 1" in axes.get_title()]

    np.testing.assert_allclose(drawn[0].lines[0].get_xydata(), ring[:, [0, 2]])


def grid(mirrored=False):
    x_mm, y_mm = (a.ravel() for a in np.meshgrid(np.arange(1.0, 40, 2), np.arange(1.0, 20, 2)))
    frame = pd.DataFrame({"x_mm": x_mm, "y_mm": y_mm, "probability": 0.5})
    frame["hemisphere"] = np.where((x_mm < 20) != mirrored, "L", "R")
    frame["annotated_area"], frame["predicted_area"] = 1, np.where(y_mm < 10, 1, 2)
    return frame


@pytest.mark.parametrize("mirrored", [False, True])
def test_hemispheres_are_named_where_they_lie_in_the_scan(mirrored):
    """A section can be mounted either way round."""
    axes = draw_section(grid(mirrored), np.full((20, 40), 200, np.uint8), (40.0, 20.0), NAMES, "x").axes[0]
    at = {text.get_text(): text.get_position()[0] for text in axes.texts if text.get_text() in "LR"}

    assert (at["L"] > at["R"]) == mirrored


def test_the_agreement_of_a_section_is_its_title():
    figure = draw_section(grid(), np.full((20, 40), 200, np.uint8), (40.0, 20.0), NAMES, "x")

    assert figure.axes[1].get_title() == "predicted (50% as annotated)"


def test_an_area_named_like_half_a_formula_is_drawn(tmp_path):
    names = NAMES.assign(name="$x_{$")
    figure = draw_section(grid(), np.full((20, 40), 200, np.uint8), (40.0, 20.0), names, "sub-$x_{$")

    assert "<!-- sub-$x_{$ -->" in save(figure, tmp_path / "section.svg").read_text()


def test_a_section_without_annotation_says_so():
    rows = grid().assign(annotated_area=0)
    figure = draw_section(rows, np.full((20, 40), 200, np.uint8), (40.0, 20.0), NAMES, "x")

    assert figure.axes[0].get_title() == "not annotated"
    assert figure.axes[1].get_title() == "predicted"


def test_slices_of_the_atlas_are_in_its_colours(reference, tmp_path):
    atlas, affine = reference.atlas()
    sure = (atlas > 0).astype(np.float32)
    path = volume_figure(reference, atlas.astype(np.uint16), sure, affine, tmp_path / "slices.png", "atlas")

    image = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert (np.ptp(image, axis=2) > 60).mean() > 0.01


def test_an_empty_volume_still_gives_a_figure(reference, tmp_path):
    _, affine = reference.atlas()
    empty = np.zeros((8, 8, 8))

    assert volume_figure(reference, empty, empty, affine, tmp_path / "empty.png", "nothing").exists()


def test_painted_labels_are_transparent_where_there_are_none():
    painted = paint(np.array([[0, 1048]]), {1048: (1.0, 0.0, 0.5)}, alpha=0.6)

    np.testing.assert_allclose(painted, [[[painted[0, 0, 0], painted[0, 0, 1], painted[0, 0, 2], 0], [1, 0, 0.5, 0.6]]])


def test_overlays_of_a_long_series_are_spread_over_it():
    rows = pd.DataFrame({"section": range(500), "sample": [f"{i:04d}" for i in range(500)]})

    drawn = overlaid_samples(rows, at_most=10)

    assert len(drawn) == 10
    assert (drawn[0], drawn[-1]) == ("0000", "0499")
