"""Layout of a contact sheet, and the strokes that it is drawn with."""

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
from PIL import ImageDraw, ImageFont

PAGE_PX = 1200
MARGIN_PX = 12
_TOP_PX = 48
_HEIGHT_PX = 1100
_MAX_WIDTH_PX = 195
_LABELS_FROM_PX = 90
_BETWEEN_PX = 4
_DASH = {"rejected": (6, 3), "withdrawn": (2, 3)}
_STROKE = {"ok": 1, "flagged": 3, "rejected": 3, "withdrawn": 1}

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class SheetLayout:
    """A grid of tiles (px), each with its number above it."""

    columns: int
    rows: int
    tile_px: int
    tile_height_px: int
    font_px: int

    @property
    def label_px(self) -> int:
        """Height of the line above a tile."""
        return self.font_px + 3

    @property
    def has_labels(self) -> bool:
        """Whether a word fits on a tile."""
        return self.tile_px >= _LABELS_FROM_PX

    @property
    def height_px(self) -> int:
        """Lower end of the grid."""
        return _TOP_PX + self.rows * (self.tile_height_px + self.label_px + _BETWEEN_PX)

    def box(self, number: int) -> Box:
        """Return left, top, right and bottom of a tile."""
        row, column = divmod(number, self.columns)
        left = MARGIN_PX + column * (self.tile_px + _BETWEEN_PX)
        top = _TOP_PX + self.label_px + row * (self.tile_height_px + self.label_px + _BETWEEN_PX)
        return left, top, left + self.tile_px, top + self.tile_height_px


def lay_out(tiles: int, proportion: float) -> SheetLayout:
    """Lay out tiles in the fewest columns with which they all fit onto a page of bounded height.

    Parameters
    ----------
    proportion : float
        Height of an image over its width; limited to between 1/3 and 2.
    """
    proportion = min(2.0, max(1 / 3, proportion))
    columns = math.ceil((PAGE_PX - 2 * MARGIN_PX + _BETWEEN_PX) / (_MAX_WIDTH_PX + _BETWEEN_PX))
    while True:
        tile = (PAGE_PX - 2 * MARGIN_PX + _BETWEEN_PX) // columns - _BETWEEN_PX
        layout = SheetLayout(columns, max(1, -(-tiles // columns)), tile, round(tile * proportion), _font_px(tile))
        if layout.height_px <= _HEIGHT_PX + _TOP_PX:
            return layout
        columns += 1


def _font_px(tile_px: int) -> int:
    return max(9, min(13, tile_px // 5))


@cache
def font(size_px: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Load DejaVu Sans, which comes with matplotlib on every machine."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf" / name), size_px)


def fitting(draw: ImageDraw.ImageDraw, text: str, face: ImageFont.FreeTypeFont, width_px: float) -> str:
    """Return as much of a text as fits into a width, ending in … where it was cut."""
    if draw.textlength(text, face) <= width_px:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if draw.textlength(text[:middle] + "…", face) <= width_px else (low, middle - 1)
    return text[:low].rstrip() + "…" if low else ""


def outline(draw: ImageDraw.ImageDraw, box: Box, color: str, status: str) -> None:
    """Outline a box: a line for flagged, dashes for rejected, dots for withdrawn, so that it is not colour alone."""
    left, top, right, bottom = box
    stroke, dash = _STROKE.get(status, 1), _DASH.get(status)
    if dash is None:
        draw.rectangle(box, outline=color, width=stroke)
        return
    on, off = dash
    for start in range(left, right, on + off):
        for y in (top, bottom):
            draw.line((start, y, min(start + on, right), y), color, stroke)
    for start in range(top, bottom, on + off):
        for x in (left, right):
            draw.line((x, start, x, min(start + on, bottom)), color, stroke)


def cross(draw: ImageDraw.ImageDraw, box: Box, color: str) -> None:
    """Cross a box out."""
    left, top, right, bottom = box
    draw.line((left, top, right, bottom), color, 1)
    draw.line((left, bottom, right, top), color, 1)
