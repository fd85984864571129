"""Masks and annotations as images: one whole number per pixel over the field of view of a scan, at any resolution.

Numbers are never averaged. An image that is too large for memory is thinned to every nth pixel.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.annotations.plane import PlaneLabels
from cytonet_pipeline.histology.formats.levels import Level
from cytonet_pipeline.histology.formats.reader import Reader
from cytonet_pipeline.histology.formats.registry import open_reader

# Held at most, as int32: 256 MiB. A mask of 20 µm over a whole section has 4000 × 5000.
LARGEST_LABEL_PX = 1 << 26
_COUNTED_BELOW = 1 << 20
# The proportions may differ from the scan's by one pixel of the image, or by what rounding to whole mm costs.
_PROPORTION = 0.01


@dataclass(frozen=True, eq=False)
class LabelImage(PlaneLabels):
    """Labels over the plane of a scan as an image.

    Attributes
    ----------
    labels : (H, W) int32 array
        0 is nothing.
    pixel_mm : (float, float)
        Width and height of a pixel (scan mm).
    unknown : tuple of str
        Numbers that `only` took out.
    """

    path: Path
    labels: np.ndarray
    pixel_mm: tuple[float, float]
    unknown: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: Path, width_mm: float, height_mm: float, *, is_mask: bool = False) -> "LabelImage":
        """Read a label image that covers `width_mm` × `height_mm` of a scan's plane.

        Parameters
        ----------
        is_mask : bool
            Whether it may also be a JPEG of black and white.

        Raises
        ------
        ScanError
            It cannot be read, has colours or fractions, or its proportions are another scan's.
        """
        reader = open_reader(Path(path))
        level = reader.mask_level() if is_mask else reader.label_level()
        _require_proportions(reader, width_mm / height_mm)
        step = max(1, math.ceil(math.sqrt(level.height * level.width / LARGEST_LABEL_PX)))
        labels = _thinned(level, step, str(path))
        pixel_mm = (width_mm / level.width * step, height_mm / level.height * step)
        return cls(Path(path), labels, pixel_mm)

    @cached_property
    def numbers(self) -> list[int]:
        """Numbers that occur, in ascending order and without 0."""
        return _numbers_in(self.labels)

    def only(self, known: Collection[int]) -> "LabelImage":
        """Return the image with 0 for every number that is not `known`; what was removed is listed in `unknown`."""
        unknown = [number for number in self.numbers if number not in known]
        if not unknown:
            return self
        labels = np.where(np.isin(self.labels, unknown), 0, self.labels).astype(np.int32)
        return LabelImage(self.path, labels, self.pixel_mm, tuple(str(number) for number in unknown))

    def where(self, number: int) -> "LabelImage":
        """Return the image with 1 where it has this number, else 0."""
        return LabelImage(self.path, (self.labels == number).astype(np.int32), self.pixel_mm)

    def _at(self, x_mm: np.ndarray, y_mm: np.ndarray) -> np.ndarray:
        height, width = self.labels.shape
        column, row = np.floor(x_mm / self.pixel_mm[0]), np.floor(y_mm / self.pixel_mm[1])
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        labels = np.zeros(x_mm.shape, np.int32)
        labels[inside] = self.labels[row[inside].astype(np.intp), column[inside].astype(np.intp)]
        return labels


def _numbers_in(labels: np.ndarray) -> list[int]:
    """List the numbers that occur, in ascending order and without 0."""
    largest = int(labels.max(initial=0))
    if largest < _COUNTED_BELOW:
        # A table is many times faster than sorting 20 million pixels.
        seen = np.zeros(largest + 1, bool)
        seen[labels] = True
        return [int(number) for number in np.flatnonzero(seen) if number]
    return [int(number) for number in np.unique(labels) if number]


def _require_proportions(reader: Reader, ratio: float) -> None:
    height, width = reader.levels[0].height, reader.levels[0].width
    allowed = (max(1.0, _PROPORTION * width), max(1.0, _PROPORTION * height))
    if abs(width - height * ratio) > allowed[0] and abs(height - width / ratio) > allowed[1]:
        raise ScanError(
            f"{reader.path}: {width} × {height} px do not have the proportions of the scan ({ratio:.3f} : 1); "
            "it belongs to another section or shows only a part.",
            to_fix="give the image of this section; it must cover the whole field of view of the scan",
        )


def _thinned(level: Level, step: int, name: str) -> np.ndarray:
    """Every `step`-th label, from the middle of each step × step block that is whole, chunk by chunk."""
    labels = np.zeros((max(1, level.height // step), max(1, level.width // step)), np.int32)
    rows, columns = level.grid
    largest = np.iinfo(np.int32).max
    for row in range(rows):
        for column in range(columns):
            chunk = level.chunk(row, column)
            if chunk is None:
                continue
            down, to_row = _taken(row * level.chunk_height, chunk.shape[0], step, labels.shape[0])
            right, to_column = _taken(column * level.chunk_width, chunk.shape[1], step, labels.shape[1])
            picked = chunk[down][:, right, 0]
            if picked.size and not 0 <= int(picked.min()) <= int(picked.max()) <= largest:
                raise ScanError(f"{name}: has labels below 0 or above {largest}.", to_fix="number the areas from 1")
            labels[to_row, to_column] = picked
    return labels


def _taken(start: int, length: int, step: int, limit: int) -> tuple[slice, slice]:
    """Return which pixels of a chunk that begins at `start` are taken, and where they go."""
    first = max(0, -((step // 2 - start) // step))
    last = min(limit, (start + length - 1 - step // 2) // step + 1)
    begin = first * step + step // 2 - start
    return slice(begin, max(begin, (last - 1) * step + step // 2 - start + 1), step), slice(first, max(first, last))
