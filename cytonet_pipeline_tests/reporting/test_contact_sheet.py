"""All sections of a brain at a glance."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.histology import survey
from cytonet_pipeline.reporting.contact_sheet import (
    STATUS_COLORS,
    Tile,
    chosen_sections,
    contact_sheet,
    draw_contact_sheet,
    tiles_of,
)
from cytonet_pipeline.settings import DatasetBlock


def tile(number, status="ok", reason="", image=True):
    return Tile(f"{number:04d}", number, status, reason, np.full((20, 30), 128, np.uint8) if image else None)


def drawn_tiles(figure):
    return [axes for axes in figure.axes if axes.axison]


@pytest.mark.parametrize("count", [1, 7, 8, 19])
def test_there_is_one_tile_a_section(count):
    figure = draw_contact_sheet([tile(i) for i in range(count)], "sub-B01")

    assert [axes.get_title() for axes in drawn_tiles(figure)] == [str(i) for i in range(count)]


@pytest.mark.parametrize("status", list(STATUS_COLORS))
def test_the_outline_tells_the_status(status):
    axes = drawn_tiles(draw_contact_sheet([tile(1, status)], "sub-B01"))[0]

    assert {to_hex(spine.get_edgecolor()).upper() for spine in axes.spines.values()} == {STATUS_COLORS[status]}


def test_the_reason_stands_on_the_tile():
    figure = draw_contact_sheet([tile(1, "withdrawn", "torn during mounting")], "sub-B01")

    assert "torn during mounting" in drawn_tiles(figure)[0].texts[0].get_text()


def test_a_scan_that_cannot_be_opened_still_has_its_tile():
    figure = draw_contact_sheet([tile(1), tile(2, "rejected", "not a TIFF", image=False)], "sub-B01")

    assert [t.get_text() for t in drawn_tiles(figure)[1].texts] == ["no picture", "not a TIFF"]


def test_of_thousands_of_sections_all_faulty_ones_are_shown():
    sections = pd.DataFrame({"section": range(6000), "status": "ok"})
    sections.loc[[5, 77, 4000], "status"] = ["flagged", "rejected", "withdrawn"]

    shown = chosen_sections(sections, at_most=50)

    assert len(shown) == 50
    assert {5, 77, 4000} <= set(shown["section"])
    assert shown["section"].is_monotonic_increasing
    assert shown["section"].iloc[-1] > 5900


def test_the_sheet_of_a_brain_shows_its_scans(small_brains, tmp_path):
    block = DatasetBlock(density_per_mm3=0.02, held_out="B20")
    brain = Dataset(small_brains / "brains", block).brain("B01")
    sections = survey(brain, block)

    tiles = tiles_of(brain, sections)
    path = contact_sheet(brain, sections, tmp_path / "contact_sheet.png")

    assert [t.sample for t in tiles] == sections["sample"].to_list()
    assert all(t.image.std() > 5 for t in tiles)  # tissue on background, not an empty picture
    assert np.asarray(Image.open(path).convert("L")).std() > 5
