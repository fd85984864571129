"""The contact sheet of a brain."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageColor

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.histology import survey, take_inventory
from cytonet_pipeline.reporting.contact_sheet import (
    MAX_BYTES,
    STATUS_COLORS,
    Tile,
    chosen_sections,
    contact_sheet,
    draw_contact_sheet,
    small_png,
    tiles_of,
)
from cytonet_pipeline.reporting.markdown import picture
from cytonet_pipeline.reporting.sheet_layout import PAGE_PX, lay_out
from cytonet_pipeline.settings import DatasetBlock


def tile(number, status="ok", reason="", image=True, label=""):
    thumbnail = np.full((20, 30), 230, np.uint8)
    thumbnail[5:15, 5:25] = 90
    return Tile(f"{number:04d}", number, status, reason, thumbnail if image else None, label)


def drawn(page, layout, number, margin=1):
    left, top, right, bottom = layout.box(number)
    return np.asarray(page)[top - margin : bottom + margin, left - margin : right + margin]


def has_color(pixels, color):
    return bool((pixels == np.array(ImageColor.getrgb(color))).all(axis=-1).any())


@pytest.mark.parametrize("count", [1, 12, 67, 460, 600])
def test_every_section_has_its_place_on_a_page_of_bounded_size(count):
    layout = lay_out(count, 0.8)
    boxes = [layout.box(number) for number in range(count)]

    assert len({box[:2] for box in boxes}) == count
    assert all(0 <= box[0] < box[2] <= PAGE_PX and box[3] <= layout.height_px <= 1200 for box in boxes)
    assert layout.font_px >= 9


@pytest.mark.parametrize("status", ["flagged", "rejected", "withdrawn"])
def test_the_outline_shows_the_status(status):
    page = draw_contact_sheet([tile(1), tile(2, status), tile(3)], "sub-B01")
    layout = lay_out(3, 2 / 3)

    assert [has_color(drawn(page, layout, n), STATUS_COLORS[status]) for n in range(3)] == [False, True, False]


def test_statuses_differ_without_colour():
    """A line for flagged, dashes and a cross for rejected: colour alone is not visible to everybody."""
    layout = lay_out(2, 2 / 3)
    page = draw_contact_sheet([tile(1, "flagged"), tile(2, "rejected")], "sub-B01")

    def along_the_top(number, status):
        left, top, right, _ = layout.box(number)
        line = np.asarray(page)[top, left:right]
        return (line == np.array(ImageColor.getrgb(STATUS_COLORS[status]))).all(axis=-1).mean()

    assert along_the_top(0, "flagged") == 1
    assert 0.4 < along_the_top(1, "rejected") < 0.9


def test_reasons_and_numbers_change_what_is_drawn():
    plain = np.asarray(draw_contact_sheet([tile(1, "flagged", "blurred")], "sub-B01"))
    other = np.asarray(draw_contact_sheet([tile(1, "flagged", "torn in two")], "sub-B01"))
    number = np.asarray(draw_contact_sheet([tile(7, "flagged", "blurred")], "sub-B01"))

    assert plain.shape == other.shape == number.shape
    assert (plain != other).any()
    assert (plain != number).any()


def test_a_scan_that_cannot_be_opened_still_has_its_tile():
    page = draw_contact_sheet([tile(1), tile(2, "rejected", "not a TIFF", image=False)], "sub-B01")
    layout = lay_out(2, 2 / 3)

    assert has_color(drawn(page, layout, 1), STATUS_COLORS["rejected"])


def test_a_dark_section_stays_darker_than_the_others():
    """All share one grey scale: stretching each section separately would hide overstained ones."""
    dark = Tile("0009", 9, "ok", "", np.where(tile(1).image < 200, 40, 230).astype(np.uint8))
    tiles = [*(tile(n) for n in range(5)), dark]
    page, layout = draw_contact_sheet(tiles, "sub-B01"), lay_out(6, 2 / 3)
    middles = [drawn(page, layout, n)[layout.tile_height_px // 2, layout.tile_px // 2, 0] for n in (0, 5)]

    assert middles[0] > middles[1]


def test_of_thousands_of_sections_all_faulty_ones_are_shown():
    sections = pd.DataFrame({"section": range(6000), "status": "ok"})
    sections.loc[[5, 77, 4000], "status"] = ["flagged", "rejected", "withdrawn"]

    shown = chosen_sections(sections, at_most=50)

    assert len(shown) == 50
    assert {5, 77, 4000} <= set(shown["section"])
    assert shown["section"].is_monotonic_increasing
    assert shown["section"].iloc[-1] > 5900


def test_a_page_of_noise_still_fits_onto_an_asset_page(tmp_path):
    """Noise is what PNG compresses least."""
    rng = np.random.default_rng(0)
    tiles = [Tile(str(n), n, "ok", "", rng.integers(60, 240, (128, 160), dtype=np.uint8)) for n in range(460)]
    path = tmp_path / "sheet.png"
    path.write_bytes(small_png(draw_contact_sheet(tiles, "sub-B01")))

    assert len(picture(path)) <= 200_000


def test_the_png_has_the_colours_of_the_page():
    page = draw_contact_sheet([tile(1), tile(2, "flagged", "blurred")], "sub-B01")
    data = small_png(page)
    stored = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)

    assert len(data) <= MAX_BYTES
    assert np.abs(stored - np.asarray(page)).max() <= 255 / 23 / 2 + 1
    assert has_color(stored, STATUS_COLORS["flagged"])


def test_the_sheet_of_a_brain_shows_its_scans(small_brains, tmp_path):
    block = DatasetBlock(density_per_mm3=0.02, held_out="B20")
    brain = Dataset(small_brains / "brains", block).brain("B01")
    sections = survey(brain, block)

    tiles = tiles_of(brain, sections)
    path = contact_sheet(brain, sections, tmp_path / "contact_sheet.png")

    assert [t.sample for t in tiles] == sections["sample"].to_list()
    assert all(t.image.std() > 5 for t in tiles)  # tissue on background, not an empty picture
    assert np.asarray(Image.open(path).convert("L")).std() > 5


def test_given_thumbnails_are_used_and_no_scan_is_opened(small_brains, monkeypatch):
    block = DatasetBlock(density_per_mm3=0.02, held_out="B20")
    brain = Dataset(small_brains / "brains", block).brain("B01")
    inventory = take_inventory(brain, block)
    monkeypatch.setattr("cytonet_pipeline.reporting.contact_sheet.open_scan", None)

    tiles = tiles_of(brain, inventory.rows, inventory.pictures)

    assert all(t.image is inventory.pictures[t.sample] for t in tiles)
