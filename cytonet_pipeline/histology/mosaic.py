"""The levels of a scan as pictures without seams: regions put together from tiles, with slide around them.

Tiles are turned into grey values once and kept while the process has room (`tiles`).
"""

import math
from collections.abc import Callable

import numpy as np

from cytonet_pipeline.histology.grey import Greyscale
from cytonet_pipeline.histology.levels import Level
from cytonet_pipeline.histology.tiff import Header
from cytonet_pipeline.histology.tiles import cached_tile, keep_tile

_SAMPLED_EACH_WAY = 8


class Mosaic:
    """Grey values of any region of any level of a scan.

    Parameters
    ----------
    background : callable
        Gives the grey value of the bare slide; asked only when a region reaches outside, or over a tile that the file
        leaves out.
    """

    def __init__(self, header: Header, grey: Greyscale, background: Callable[[], int]) -> None:
        self._state = header.state
        self._grey = grey
        self._background = background
        self._height, self._width = header.levels[0].height, header.levels[0].width

    def region(self, level: Level, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """Pixels of a level from row `top` to `bottom`, column `left` to `right`, which may reach outside."""
        if top >= 0 and left >= 0 and bottom <= level.height and right <= level.width:
            return self._inside(level, top, bottom, left, right)
        height, width = self._covered(level)
        if bottom <= 0 or right <= 0 or top >= height or left >= width:
            return np.full((bottom - top, right - left), self._background(), np.uint8)
        y0, x0 = min(max(top, 0), level.height - 1), min(max(left, 0), level.width - 1)
        y1, x1 = max(y0 + 1, min(bottom, level.height)), max(x0 + 1, min(right, level.width))
        picture = self._inside(level, y0, y1, x0, x1)
        # A level whose last row was rounded away still shows the whole scan: that row is repeated, not slide.
        picture = np.pad(picture, ((0, max(0, min(bottom, height) - y1)), (0, max(0, min(right, width) - x1))), "edge")
        picture = picture[max(top, 0) - y0 :, max(left, 0) - x0 :]
        around = ((max(0, -top), max(0, bottom - height)), (max(0, -left), max(0, right - width)))
        if around == ((0, 0), (0, 0)):
            return picture
        return np.pad(picture, around, constant_values=self._background())

    def _inside(self, level: Level, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        rows = range(top // level.chunk_height, (bottom - 1) // level.chunk_height + 1)
        columns = range(left // level.chunk_width, (right - 1) // level.chunk_width + 1)
        if len(rows) == len(columns) == 1:
            y, x = rows[0] * level.chunk_height, columns[0] * level.chunk_width
            return self._chunk(level, rows[0], columns[0])[top - y : bottom - y, left - x : right - x]
        region = np.empty((bottom - top, right - left), np.uint8)
        for row in rows:
            for column in columns:
                y, x = row * level.chunk_height, column * level.chunk_width
                a, b = max(y, top), min(y + level.chunk_height, bottom)
                c, d = max(x, left), min(x + level.chunk_width, right)
                chunk = self._chunk(level, row, column)
                region[a - top : b - top, c - left : d - left] = chunk[a - y : b - y, c - x : d - x]
        return region

    def _covered(self, level: Level) -> tuple[int, int]:
        """Rows and columns that the level would have if it had been rounded up."""
        return math.ceil(self._height / level.factor), math.ceil(self._width / level.factor)

    def _chunk(self, level: Level, row: int, column: int) -> np.ndarray:
        found = self._stored_chunk(level, row, column)
        if found is None:
            # Slide scanners leave out tiles where there is nothing on the glass.
            return np.full((level.chunk_height, level.chunk_width), self._background(), np.uint8)
        return found

    def _stored_chunk(self, level: Level, row: int, column: int) -> np.ndarray | None:
        key = (self._state, self._grey.key, level.factor, row, column)
        found = cached_tile(key)
        if found is None and (samples := level.chunk(row, column)) is not None:
            found = self._grey(samples)
            keep_tile(key, found)
        return found

    def sampled_chunks(self, level: Level) -> list[np.ndarray]:
        """Up to 64 of the tiles that the file has, spread evenly over the level."""
        down, right = (
            sorted(set(np.linspace(0, edge - 1, _SAMPLED_EACH_WAY).astype(int).tolist())) for edge in level.grid
        )
        stored = (self._stored_chunk(level, row, column) for row in down for column in right)
        return [chunk for chunk in stored if chunk is not None]
