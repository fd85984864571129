"""Figures and the HTML page of a UMAP."""

import re

import numpy as np
import pandas as pd
import pytest

from cytonet_pipeline.reporting.umap_drawings import draw_by_area, draw_by_brain, first_axis, umap_pictures
from cytonet_pipeline.reporting.umap_page import hover_columns, write_page

NAMES = pd.DataFrame({"index": [1, 2], "name": ["Area 4a (PreCG)", "hOc1"], "color": ["#ff0000", "#0000ff"]})


@pytest.fixture(scope="module")
def points():
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"umap_1": random.normal(size=120), "umap_2": random.normal(size=120)})
    frame["brain"] = np.tile(["B01", "B02", "B20"], 40)
    frame["section"], frame["annotated_area"] = np.arange(120), np.repeat([0, 1, 2], 40)
    for axis in "xyz":
        frame[f"ref_{axis}_mm"] = random.uniform(-60, 60, 120)
    return frame


def draw(points, folder):
    pictures = umap_pictures(points, NAMES, folder, "UMAP of demo")
    return [*pictures, write_page(points, NAMES, folder / "umap.html", "UMAP of demo")]


@pytest.fixture(scope="module")
def written(points, tmp_path_factory):
    folder = tmp_path_factory.mktemp("umap")
    return folder, draw(points, folder)


def test_png_svg_and_page_are_written(written):
    folder, paths = written
    names = [f"umap_by-{what}.{kind}" for what in ("area", "brain", "anterior") for kind in ("png", "svg")]

    assert [p.name for p in paths] == [*names, "umap.html"]
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in paths)


def test_the_page_needs_no_network(written):
    """Lab machines are often cut off; a page that loads plotly from elsewhere stays white there."""
    page = (written[0] / "umap.html").read_text(encoding="utf-8")

    assert not re.search(r"<(script|link)[^>]+(src|href)\s*=\s*[\"']?(https?:)?//", page)
    assert "Plotly.newPlot" in page


def test_hovering_shows_brain_section_and_position(written, points):
    page = (written[0] / "umap.html").read_text(encoding="utf-8")

    position = "x %{customdata[2]:.1f}, y %{customdata[3]:.1f}, z %{customdata[4]:.1f} mm"
    assert f"sub-%{{customdata[0]}}, section %{{customdata[1]}}\\u003cbr\\u003e{position}" in page
    assert hover_columns() == ["brain", "section", "ref_x_mm", "ref_y_mm", "ref_z_mm"]


def test_the_same_points_give_the_same_files(written, points, tmp_path):
    draw(points, tmp_path)

    for path in written[1]:
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_areas_have_the_colours_of_the_atlas(points):
    figure = draw_by_area(points, NAMES, "UMAP")
    unknown, known = figure.axes[0].collections

    assert len(unknown.get_offsets()) == 40
    np.testing.assert_allclose(np.unique(known.get_facecolors(), axis=0), [[0, 0, 1, 1], [1, 0, 0, 1]])
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["Area 4a (PreCG) (40)", "hOc1 (40)", "not annotated (40)"]


def test_each_brain_has_a_panel_of_its_own(points):
    titles = [axes.get_title() for axes in draw_by_brain(points, "UMAP").axes]

    assert titles == ["all", "sub-B01 (40)", "sub-B02 (40)", "sub-B20 (40)"]


def test_the_label_of_the_first_axis_has_its_correlation_with_anterior():
    y_mm = np.arange(10.0)
    assert first_axis(pd.DataFrame({"umap_1": y_mm * 2, "ref_y_mm": y_mm})) == "UMAP 1 (r = 1.00 with anterior)"


def test_names_of_areas_and_brains_are_no_formulas_and_no_tags(points, tmp_path):
    """`$x_{$` is half a formula; plotly takes tags and placeholders in any text for its own."""
    names = NAMES.assign(name=["$x_{$ and $y$", "<b>%{x}</b></script>"])
    brains = points.assign(brain=points["brain"].replace("B01", "$x_{$").replace("B02", "<i>B02"))

    figure = draw_by_area(brains, names, "UMAP of $x_{$ and $")
    umap_pictures(brains, names, tmp_path, "UMAP of $x_{$")
    page = write_page(brains, names, tmp_path / "umap.html", "UMAP of <b>").read_text()

    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "$x_{$ and $y$ (40)" in labels
    svg = (tmp_path / "umap_by-brain.svg").read_text()
    assert "<!-- sub-$x_{$ (40) -->" in svg
    data = page.rpartition("Plotly.newPlot")[2]
    assert "<b>" not in data
    assert 'hovertemplate":"%{meta}' in data
    assert data.count("</script>") == 1
