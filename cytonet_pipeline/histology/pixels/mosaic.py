"""The levels of a scan as seamless pictures: regions assembled from tiles, with slide around them.

Tiles are converted to grey values once and cached as long as that pays (`tiles`).
"""

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np

from cytonet_pipeline.histology.formats.levels import Level, Stored, scratch
from cytonet_pipeline.histology.pixels.grey import Greyscale
from cytonet_pipeline.histology.pixels.tiles import TileCache, first_key, tile_cache

_SAMPLED_EACH_WAY = 8
_SIDE_BY_SIDE_BYTES = 2 << 20


class Mosaic:
    """Grey values of any region of any level of a scan.

    Parameters
    ----------
    name : str
        Identifies the scan and its state: two scans of one name share their tiles.
    full_size : (height, width)
        Pixels at full resolution.
    background : callable
        Returns the grey value of the bare slide; called only if a region extends beyond the scan, or over a tile that
        the file leaves out.
    """

    def __init__(self, name: str, full_size: tuple[int, int], grey: Greyscale, background: Callable[[], int]) -> None:
        self._name = f"{name} {grey.key}"
        self._height, self._width = full_size
        self._grey = grey
        self._background = background
        self._first_keys: dict[int, int] = {}

    def region(self, level: Level, top: int, left: int, out: np.ndarray) -> None:
        """Copy the pixels of a level from row `top` and column `left` on into `out`; they may lie outside."""
        bottom, right = top + out.shape[0], left + out.shape[1]
        if top >= 0 and left >= 0 and bottom <= level.height and right <= level.width:
            self._inside(level, top, left, out)
            return
        # A level whose last row was rounded away still shows the whole scan: that row is repeated, not slide.
        height, width = self._covered(level)
        y0, y1, x0, x1 = max(top, 0), min(bottom, height), max(left, 0), min(right, width)
        if y0 >= y1 or x0 >= x1:
            out[:] = self._background()
            return
        if (y0, y1, x0, x1) != (top, bottom, left, right):
            out[:] = self._background()
        shown = out[y0 - top : y1 - top, x0 - left : x1 - left]
        first_row, first_column = min(y0, level.height - 1), min(x0, level.width - 1)
        rows, columns = min(y1, level.height) - first_row, min(x1, level.width) - first_column
        if shown.shape == (rows, columns):
            self._inside(level, first_row, first_column, shown)
            return
        picture = np.empty((rows, columns), np.uint8)
        self._inside(level, first_row, first_column, picture)
        more = (shown.shape[0] - picture.shape[0], shown.shape[1] - picture.shape[1])
        shown[:] = np.pad(picture, ((0, more[0]), (0, more[1])), "edge")

    def sampled_chunks(self, level: Level) -> list[np.ndarray]:
        """Read up to 64 of the tiles that the file has, spread evenly over the level."""
        return [self._grey(chunk) for chunk in self._sampled(level)]

    def sampled_values(self, level: Level) -> np.ndarray:
        """Return grey values before the window, of the same tiles."""
        values = [self._grey.values(chunk).ravel() for chunk in self._sampled(level)]
        return np.concatenate(values) if values else np.empty(0, np.uint8)

    def _sampled(self, level: Level) -> Iterator[np.ndarray]:
        down, right = (
            sorted(set(np.linspace(0, edge - 1, _SAMPLED_EACH_WAY).astype(int).tolist())) for edge in level.grid
        )
        samples = (level.chunk(row, column) for row in down for column in right)
        return (chunk for chunk in samples if chunk is not None)

    def _covered(self, level: Level) -> tuple[int, int]:
        """Return the rows and columns that the level would have if it had been rounded up."""
        return math.ceil(self._height / level.factor), math.ceil(self._width / level.factor)

    def _inside(self, level: Level, top: int, left: int, out: np.ndarray) -> None:
        columns = _spans(left, out.shape[1], level.chunk_width)
        first, across, count = self._first_key(level), level.grid[1], len(columns)
        cache = tile_cache()
        rows = _spans(top, out.shape[0], level.chunk_height)
        cached = cache.find([first + row * across + column for row, *_ in rows for column, *_ in columns])
        left_out: list[np.ndarray] = []
        for index, (row, to_row, from_row) in enumerate(rows):
            strip, here = out[to_row], cached[index * count : (index + 1) * count]
            missing = []
            for span, tile in zip(columns, here, strict=True):
                if tile is None:
                    missing.append(span)
                else:
                    strip[:, span[1]] = tile[from_row, span[2]]
            if not missing:
                continue
            if cache.worth_keeping:
                left_out += self._decode_and_keep(level, row, missing, from_row, strip, cache, first + row * across)
                continue
            left_out += self._decode(level, row, missing, from_row, strip)
            cache.pass_by(
                [first + row * across + column for column, *_ in missing], level.chunk_height * level.chunk_width
            )
        for place in left_out:
            # Slide scanners leave out tiles where there is nothing on the glass.
            place[:] = self._background()

    def _decode_and_keep(
        self,
        level: Level,
        row: int,
        spans: "list[_Span]",
        from_row: slice,
        strip: np.ndarray,
        cache: TileCache,
        first: int,
    ) -> list[np.ndarray]:
        """Decode tiles of one row into a strip and cache them; return the places of those that the file leaves out."""
        left_out = []
        spans_of = {span[0]: span for span in spans}
        for column, stored in itertools.chain.from_iterable(level.fetch(row, list(spans_of))):
            _, to_column, from_column = spans_of[column]
            if stored is None:
                left_out.append(strip[:, to_column])
                continue
            tile = self._tile(level, row, column, stored)
            strip[:, to_column] = tile[from_row, from_column]
            cache.keep(first + column, tile)
        return left_out

    def _decode(
        self, level: Level, row: int, spans: "list[_Span]", from_row: slice, strip: np.ndarray
    ) -> list[np.ndarray]:
        """Decode tiles of one row into a strip; return the places of those that the file leaves out."""
        left_out, tile_bytes = [], level.chunk_height * level.chunk_width
        # A few tiles side by side, so that the strip is written line by line and not tile by tile.
        together = max(1, min(len(spans), _SIDE_BY_SIDE_BYTES // tile_bytes))
        side_by_side = scratch("tiles", together * tile_bytes).reshape(together, tile_bytes)
        tiles = side_by_side.reshape(together, level.chunk_height, level.chunk_width)[:, from_row]
        places, into = list(side_by_side), level.into if self._grey.plain else None
        spans_of = {span[0]: span for span in spans}
        waiting: list[_Span] = []
        for column, stored in itertools.chain.from_iterable(level.fetch(row, list(spans_of))):
            span = spans_of[column]
            if stored is None:
                left_out.append(strip[:, span[1]])
                continue
            try:
                into(stored[0], places[len(waiting)])  # type: ignore[misc]
            except Exception:  # no decoder into memory, or odd data: the slower way knows more, or names the fault
                strip[:, span[1]] = self._grey(level.decode(row, column, stored))[from_row, span[2]]
                continue
            waiting.append(span)
            if len(waiting) == together:
                _place(tiles, waiting, strip)
                waiting = []
        _place(tiles, waiting, strip)
        return left_out

    def _tile(self, level: Level, row: int, column: int, stored: Stored) -> np.ndarray:
        """Decode a chunk to grey values, in memory of their own."""
        if level.into is not None and self._grey.plain:
            tile = np.empty((level.chunk_height, level.chunk_width), np.uint8)
            try:
                level.into(stored[0], tile.reshape(-1))
                return tile
            except Exception:  # odd data: the slower way knows more about them, or names the fault
                pass
        return self._grey(level.decode(row, column, stored))

    def _first_key(self, level: Level) -> int:
        key = self._first_keys.get(level.factor)
        if key is None:
            key = self._first_keys[level.factor] = first_key(f"{self._name} {level.factor}")
        return key


_Span = tuple[int, slice, slice]
"""A chunk along one axis that a region touches: its number, the pixels of the region, the pixels of the chunk."""


def _spans(begin: int, count: int, chunk: int) -> list[_Span]:
    """List the chunks along one axis that `count` pixels from `begin` on touch."""
    spans = []
    for number in range(begin // chunk, (begin + count - 1) // chunk + 1):
        first, last = max(begin, number * chunk), min(begin + count, (number + 1) * chunk)
        inside = slice(first - number * chunk, last - number * chunk)
        spans.append((number, slice(first - begin, last - begin), inside))
    return spans


def _place(tiles: np.ndarray, spans: list[_Span], strip: np.ndarray) -> None:
    """Copy tiles (count, height, width) into a strip; whole ones that are neighbours at once."""
    width, index = tiles.shape[2], 0
    while index < len(spans):
        _, to_column, from_column = spans[index]
        last, end = index + 1, to_column.stop
        if from_column == slice(0, width):
            while last < len(spans) and spans[last][1] == slice(end, end + width):
                last, end = last + 1, end + width
        if last == index + 1:
            strip[:, to_column] = tiles[index, :, from_column]
        else:
            whole = strip[:, to_column.start : end].reshape(len(strip), last - index, width)
            whole[:] = tiles[index:last].transpose(1, 0, 2)
        index = last
