"""Contact sheet of a brain: all its sections, which of them stand out or are left out, and why.

Drawn pixel by pixel with Pillow: the sheet must stay legible where 460 sections share one page, and small enough for an
asset page, which takes 200 kB of text. The layout is in `sheet_layout`.
"""

import io
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from cytonet_pipeline.dataset import Brain, Section
from cytonet_pipeline.errors import DataFault
from cytonet_pipeline.histology import open_scan
from cytonet_pipeline.histology.pixels.tissue import otsu_classes
from cytonet_pipeline.reporting.sheet_layout import (
    MARGIN_PX,
    PAGE_PX,
    Box,
    SheetLayout,
    cross,
    fitting,
    font,
    lay_out,
    outline,
)
from cytonet_pipeline.store import atomic_file

STATUS_COLORS: Mapping[str, str] = {
    "ok": "#9A9A9A",
    "flagged": "#E69F00",
    "rejected": "#D00000",
    "withdrawn": "#777777",
}
THUMBNAIL_PX = 160
MAX_TILES = 600
# Base64 adds a third, and the asset page takes 200 kB.
MAX_BYTES = 140_000
_LISTED = 16
_LINE_PX = 17
_GREYS = (24, 12, 8, 5)
_WHITE_ABOVE = 0.96
_DARKEST = 1.5
_FADED = 0.35


@dataclass(frozen=True, eq=False)
class Tile:
    """One section: thumbnail (None if the scan cannot be opened), status, the reason for it, and a one-word label."""

    sample: str
    section: int
    status: str
    reason: str
    image: np.ndarray | None
    label: str = ""


def contact_sheet(
    brain: Brain, sections: pd.DataFrame, path: Path, pictures: Mapping[str, np.ndarray] | None = None
) -> Path:
    """Draw the contact sheet of a brain and save it as a PNG.

    Parameters
    ----------
    sections : DataFrame
        Table `section_scans` of the brain.
    pictures : mapping, optional
        Thumbnails by sample, if the caller has them; otherwise they are read from the scans.
    """
    shown = chosen_sections(sections)
    title = f"sub-{brain.name}: {len(sections)} sections"
    if len(shown) < len(sections):
        title += f", {len(shown)} shown"
    page = draw_contact_sheet(tiles_of(brain, shown, pictures), title, Counter(sections["status"]))
    with atomic_file(path) as temporary:
        temporary.write_bytes(small_png(page))
    return path


def chosen_sections(sections: pd.DataFrame, at_most: int = MAX_TILES) -> pd.DataFrame:
    """Choose the sections to show: all that are not ok, and as many others, evenly spaced, as there is room for."""
    if len(sections) <= at_most:
        return sections
    ok = np.flatnonzero(sections["status"] == "ok")
    rest = np.flatnonzero(sections["status"] != "ok")[:at_most]
    room = at_most - len(rest)
    spaced = ok[np.unique(np.linspace(0, len(ok) - 1, min(room, len(ok))).round().astype(int))] if room else ok[:0]
    return sections.iloc[np.sort(np.concatenate([rest, spaced]))]


def tiles_of(brain: Brain, sections: pd.DataFrame, pictures: Mapping[str, np.ndarray] | None = None) -> list[Tile]:
    """Return tiles for rows of `section_scans`, with the given thumbnails or those read from the scans."""
    scans = {section.sample: section for section in brain.sections}
    tiles = []
    for row in sections.to_dict("records"):
        sample = row["sample"]
        image = _thumbnail(scans.get(sample), row["pixel_um"]) if pictures is None else pictures.get(sample)
        findings = row.get("findings")
        label = findings if isinstance(findings, str) and findings else "" if row["status"] == "ok" else row["status"]
        tiles.append(Tile(sample, int(row["section"]), row["status"], row["reason"], image, label))
    return tiles


def draw_contact_sheet(tiles: Sequence[Tile], title: str, counts: Mapping[str, int] | None = None) -> Image.Image:
    """Draw one tile per section, outlined by its status, and below them the reasons why sections stand out."""
    shape = next((tile.image.shape for tile in tiles if tile.image is not None), (4, 5))
    odd = [tile for tile in tiles if tile.status != "ok"]
    layout = lay_out(len(tiles), shape[0] / shape[1])
    darkest = _darkest(tiles)
    listed = min(len(odd), _LISTED) + (len(odd) > _LISTED)
    page = Image.new("RGB", (PAGE_PX, layout.height_px + MARGIN_PX + _LINE_PX * listed), "white")
    draw = ImageDraw.Draw(page)
    draw.text((MARGIN_PX, MARGIN_PX), title, "black", font(18, bold=True))
    _draw_legend(draw, counts or Counter(tile.status for tile in tiles))
    for number, tile in enumerate(tiles):
        _draw_tile(page, draw, tile, layout.box(number), layout, darkest)
    _draw_reasons(draw, odd, layout.height_px)
    return page


def small_png(page: Image.Image, max_bytes: int = MAX_BYTES) -> bytes:
    """Encode a page as PNG, with as many grey values as fit into `max_bytes`."""
    pixels = np.asarray(page)
    colored = np.ptp(pixels, axis=2) > 0
    colors, which = np.unique(pixels[colored], axis=0, return_inverse=True)
    data = b""
    for levels in _GREYS:
        numbers = np.round(pixels[..., 0] / 255 * (levels - 1)).astype(np.uint8)
        numbers[colored] = levels + which.ravel()
        shown = Image.fromarray(numbers, "P")
        greys = np.repeat(np.linspace(0, 255, levels).round().astype(np.uint8)[:, None], 3, axis=1)
        shown.putpalette(np.concatenate([greys, colors]).tobytes())
        stream = io.BytesIO()
        shown.save(stream, format="PNG", optimize=True)
        data = stream.getvalue()
        if len(data) <= max_bytes:
            break
    return data


def _draw_legend(draw: ImageDraw.ImageDraw, counts: Mapping[str, int]) -> None:
    right = PAGE_PX - MARGIN_PX
    for status in reversed([status for status in STATUS_COLORS if counts.get(status)]):
        text = f"{status} {counts[status]}"
        right -= round(draw.textlength(text, font(13)))
        draw.text((right, MARGIN_PX + 3), text, "black", font(13))
        outline(draw, (right - 26, MARGIN_PX + 3, right - 8, MARGIN_PX + 17), STATUS_COLORS[status], status)
        right -= 44


def _draw_tile(
    page: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, box: Box, layout: SheetLayout, darkest: float
) -> None:
    numbers = font(layout.font_px)
    color = STATUS_COLORS.get(tile.status, STATUS_COLORS["ok"])
    draw.text((box[0] + 1, box[1] - layout.label_px), f"{tile.section}", "black", numbers)
    if tile.image is not None:
        picture = Image.fromarray(_stretched(tile, darkest))
        picture.thumbnail((box[2] - box[0] - 4, box[3] - box[1] - 4), Image.Resampling.BOX)
        left = (box[0] + box[2] - picture.width) // 2
        page.paste(picture, (left, (box[1] + box[3] - picture.height) // 2))
    else:
        middle = ((box[0] + box[2]) // 2, (box[1] + box[3]) // 2)
        draw.text(middle, fitting(draw, "no image", numbers, layout.tile_px), color, numbers, anchor="mm")
    if tile.status == "rejected":
        cross(draw, box, color)
    outline(draw, box, color, tile.status)
    if tile.label and layout.has_labels:
        text = fitting(draw, tile.label, numbers, layout.tile_px - 8)
        place = ((box[0] + box[2]) // 2, box[3] - 4)
        draw.rectangle(draw.textbbox(place, text, numbers, anchor="mb"), fill="white")
        draw.text(place, text, "black", numbers, anchor="mb")


def _draw_reasons(draw: ImageDraw.ImageDraw, odd: Sequence[Tile], top: int) -> None:
    for line, tile in enumerate(odd[:_LISTED]):
        y = top + line * _LINE_PX
        outline(draw, (MARGIN_PX, y + 2, MARGIN_PX + 12, y + 13), STATUS_COLORS[tile.status], tile.status)
        text = fitting(draw, f"{tile.section}  {tile.reason}", font(12), PAGE_PX - 3 * MARGIN_PX - 20)
        draw.text((MARGIN_PX + 20, y), text, "black", font(12))
    if len(odd) > _LISTED:
        text = f"and {len(odd) - _LISTED} more: column reason of sections.parquet"
        draw.text((MARGIN_PX + 20, top + _LISTED * _LINE_PX), text, "black", font(12))


def _darkest(tiles: Sequence[Tile]) -> float:
    """Return the grey value that becomes black, as a share of the slide's.

    It is one for all tiles, so that a dark section stays dark.
    """
    dark = [float(np.percentile(tile.image, 2)) / _slide(tile.image) for tile in tiles if tile.image is not None]
    return max(0.0, 1 - _DARKEST * (1 - float(np.median(dark)))) if dark else 0.0


def _slide(image: np.ndarray) -> float:
    # Not a high percentile: images that were shifted have a rim that is brighter than their slide.
    return float(np.median(otsu_classes(image)[1])) or 1.0


def _stretched(tile: Tile, darkest: float) -> np.ndarray:
    """Return a thumbnail whose slide is white: noise on the slide would take up most of the file."""
    assert tile.image is not None
    grey = (tile.image / _slide(tile.image) - darkest) / max(_WHITE_ABOVE - darkest, 0.05)
    grey = np.clip(grey, 0, 1)
    if tile.status == "withdrawn":
        grey = 1 - _FADED * (1 - grey)
    return np.round(grey * 255).astype(np.uint8)


def _thumbnail(section: Section | None, pixel_um: float | None) -> np.ndarray | None:
    if section is None or section.scan is None:
        return None
    scan, known_um = section.scan, None if pixel_um is None or np.isnan(pixel_um) else pixel_um
    try:
        with open_scan(scan, known_um, pick=section.pick) as opened:
            return opened.thumbnail(THUMBNAIL_PX)
    except (DataFault, OSError) as fault:
        logging.getLogger(__name__).info("no thumbnail of %s: %s", scan, fault)
        return None
