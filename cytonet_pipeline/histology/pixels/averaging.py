"""Area averages: a finer grid resampled to a coarser one, each output pixel the mean of the box that it covers."""

import math
from dataclasses import dataclass

import numpy as np

# Coordinates this close to a pixel's edge are taken to lie on it (px).
_SNAP = 1e-6
_MOST_SLICES = 32


@dataclass(frozen=True)
class Boxes:
    """`count` boxes along one axis: box i covers [start + i·step, start + (i + 1)·step), in source pixels; step ≥ 1."""

    start: float
    step: float
    count: int

    @classmethod
    def snapped(cls, start: float, step: float, count: int) -> "Boxes":
        """Make boxes whose start and step are rounded to whole numbers where they differ by rounding errors only."""
        return cls(_snap(start, 1), _snap(step, step), count)

    @property
    def first(self) -> int:
        """The first source pixel that is touched."""
        return math.floor(self.start)

    @property
    def last(self) -> int:
        """The source pixel after the last one that is touched."""
        return math.ceil(_snap(self.start + self.step * self.count, 1))

    @property
    def whole(self) -> bool:
        """Whether all boxes begin and end on edges of source pixels."""
        return float(self.start).is_integer() and float(self.step).is_integer()

    def part(self, begin: int, end: int) -> "Boxes":
        """Return boxes `begin` to `end`."""
        return Boxes.snapped(self.start + begin * self.step, self.step, end - begin)


def average(source: np.ndarray, down: Boxes, right: Boxes) -> np.ndarray:
    """Average a region over boxes.

    Parameters
    ----------
    source : (H, W) uint8 array
        Exactly the pixels `down.first` to `down.last` and `right.first` to `right.last`.

    Returns
    -------
    (down.count, right.count) uint8 array
        Means, rounded half up. Pixels that a box covers in part are weighted by that part.
    """
    if down.whole and right.whole and down.step == right.step and down.step <= 4096:
        return _average_whole(source, int(down.step))
    total = _sums(_sums(source, down).T, right).T
    return np.floor(total / (down.step * right.step) + 0.5).clip(0, 255).astype(np.uint8)


def _average_whole(source: np.ndarray, step: int) -> np.ndarray:
    """Average over step × step pixels, in whole numbers throughout."""
    if step == 1:
        return source
    kind: type = np.uint16 if step * step <= 257 else np.uint32
    if step <= _MOST_SLICES:
        # Adding slices is several times faster than a reduction over a short axis.
        rows: np.ndarray = source[0::step].astype(kind)
        for shift in range(1, step):
            rows += source[shift::step]
        total = rows[:, 0::step].copy()
        for shift in range(1, step):
            total += rows[:, shift::step]
    else:
        height, width = source.shape
        boxes = source.reshape(height // step, step, width // step, step)
        total = boxes.sum(axis=1, dtype=kind).sum(axis=2, dtype=kind)
    return ((total + kind(step * step // 2)) // kind(step * step)).astype(np.uint8)


def _sums(source: np.ndarray, boxes: Boxes) -> np.ndarray:
    """Sum over boxes along the first axis: whole pixels by `reduceat`, the two cut ones by their parts."""
    edges = boxes.start - boxes.first + boxes.step * np.arange(boxes.count + 1)
    nearest = np.rint(edges)
    edges = np.where(np.abs(edges - nearest) < _SNAP, nearest, edges)
    index = np.floor(edges).astype(np.intp)
    part = (edges - index)[:, None]
    kind = np.int64 if source.dtype.kind == "u" else np.float64
    total: np.ndarray = np.add.reduceat(source[: index[-1]], index[:-1], axis=0, dtype=kind)
    if part.any():
        cut = source[np.minimum(index, len(source) - 1)] * part
        total = total - cut[:-1] + cut[1:]
    return total


def _snap(value: float, scale: float) -> float:
    nearest = round(value)
    return float(nearest) if abs(value - nearest) < _SNAP * scale else float(value)


def averaged(picture: np.ndarray, step: int) -> np.ndarray:
    """Average a picture over step × step pixels, or all of a smaller one; a remainder at its end is left out."""
    step = min(step, *picture.shape)
    rows, columns = (edge // step for edge in picture.shape)
    region = picture[: rows * step, : columns * step]
    return average(region, Boxes(0.0, float(step), rows), Boxes(0.0, float(step), columns))
