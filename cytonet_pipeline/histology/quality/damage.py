"""Folds and tears as a thumbnail shows them: dark and bare straight lines in the tissue.

Both come from the line operator of Dixon and Taylor (1979, Inst. Phys. Conf. Ser. 44:178): the mean density along a
short straight line against that along two parallels, one on each side, over twelve directions. A fold is a line with
more stain than both sides, because two or three layers of tissue lie there; a tear is a line of bare slide with tissue
on both sides.

Limits: sulci, ventricles and dense layers of cells are lines too, so neither figure means anything for one section
alone. It is compared with the neighbours in the series (`inventory.outliers`), whose anatomy is similar. A fold is
detected if it is about as dark as the densest tissue, so not one that merely doubles light white matter, and both folds
and tears if they are at least about a fifth of the tissue's extent long. Tissue that is missing as a whole changes the
area instead.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cytonet_pipeline.histology.quality.overview import Overview

_DIRECTIONS = 12
# Length of the line, and distance of its parallels, as fractions of the square root of the tissue's area.
# Further apart, a fold could not be distinguished from the cortical ribbon.
_LENGTH, _APART, _WIDER_APART = 0.2, 0.015, 0.04
_LEAST_APART_PX = 2.0
_DENSE_PERCENTILE = 95
_BARE = 0.6
_NO_DENSITY = 1e-6
_WORKING_PX = 320


@dataclass(frozen=True)
class Damage:
    """Dark and bare lines in a section.

    Attributes
    ----------
    folds : float
        By how much the darkest straight line exceeds both its sides in optical density, in units of the tissue's 95th
        percentile; 0 without tissue. Anatomy alone reaches 0.3 to 0.7.
    tears : float
        Share of the tissue's area where a straight line lacks at least 0.6 of the density of both its sides.
    wide_tears : float
        The same with sides further apart: wide tears, but also more sulci and ventricles.
    """

    folds: float
    tears: float
    wide_tears: float


def measure_damage(overview: Overview) -> Damage:
    """Measure folds and tears in an overview."""
    density, tissue = _reduced(overview)
    if not tissue.any():
        return Damage(0.0, 0.0, 0.0)
    across = float(np.sqrt(tissue.sum()))
    dense = float(np.percentile(density[tissue], _DENSE_PERCENTILE))
    least = float(np.median(density[tissue])) / 2
    excess = np.zeros(density.shape, np.float32)
    lacks = [np.zeros(density.shape, np.float32) for _ in (_APART, _WIDER_APART)]
    for line, near, far in _lines(density, across):
        excess = np.maximum(excess, line - np.maximum(*near))
        for lack, sides in zip(lacks, (near, far), strict=True):
            lesser = np.minimum(*sides)
            np.maximum(lack, (lesser - line) / np.maximum(lesser, least), out=lack)
    folds = float(excess[tissue].max()) / max(dense, _NO_DENSITY)
    thin, wide = (float((lack > _BARE).sum() / tissue.sum()) for lack in lacks)
    return Damage(folds, thin, wide)


def _reduced(overview: Overview) -> tuple[np.ndarray, np.ndarray]:
    """Return density and tissue, of a large overview at half its size: enough for lines, in a quarter of the time."""
    density, tissue = ndimage.uniform_filter(overview.density, 3), overview.tissue
    if density.shape[1] <= _WORKING_PX:
        return density, tissue
    return density[::2, ::2], tissue[::2, ::2]


Sides = tuple[np.ndarray, np.ndarray]


def _lines(density: np.ndarray, across: float) -> Iterator[tuple[np.ndarray, Sides, Sides]]:
    """Yield for each direction the mean along the line through every pixel, and along near and far parallels."""
    halvings = max(2, round(np.log2(_LENGTH * across)))
    apart = [max(_LEAST_APART_PX, part * across) for part in (_APART, _WIDER_APART)]
    margin = 2**halvings
    padded = np.pad(density, margin)
    inside = (slice(margin, -margin), slice(margin, -margin))
    for angle in np.arange(_DIRECTIONS) * np.pi / _DIRECTIONS:
        down, right = np.sin(angle), np.cos(angle)
        line = _mean_along(padded, halvings, down, right)
        near, far = (_sides(line, right * px, -down * px, inside) for px in apart)
        yield line[inside], near, far


def _sides(line: np.ndarray, down: float, right: float, inside: tuple[slice, slice]) -> Sides:
    aside = (round(down), round(right))
    return np.roll(line, aside, (0, 1))[inside], np.roll(line, (-aside[0], -aside[1]), (0, 1))[inside]


def _mean_along(values: np.ndarray, halvings: int, down: float, right: float) -> np.ndarray:
    """Average 2**halvings pixels in a row in one direction, centred; each step doubles the length."""
    mean, length = values, 1
    for _ in range(halvings):
        mean = (mean + np.roll(mean, (-round(down * length), -round(right * length)), (0, 1))) * np.float32(0.5)
        length *= 2
    middle = (length - 1) / 2
    return np.roll(mean, (round(middle * down), round(middle * right)), (0, 1))
