"""Cells: how dense and how large they are at each depth of each area, and how they are drawn.

All difficulty of the phantom lies in the constants below. What tells areas apart is the *profile* over the depth of the
cortex; the mean darkness is the same in all areas, so that a grey value alone says little about the area.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from cytonet_pipeline.phantom.draws import stream

# Share of tissue that cell bodies cover, averaged over depth: the same in all areas, up to MEAN_SPREAD.
MEAN_COVERAGE = 0.26
MEAN_SPREAD = 0.03
# How much areas differ: standard deviations of the logarithm of a layer's coverage, of the cell radius in it, and of
# its thickness. Larger makes the phantom easier.
COVERAGE_SPREAD = 0.75
RADIUS_SPREAD = 0.32
THICKNESS_SPREAD = 0.30
# Share of that variance that areas of one gyrus (the brackets in their names) have in common: 1 would make them alike.
KINSHIP = 0.45
RADIUS_UM = (45.0, 150.0)
RADIUS_CLASSES = 7
WHITE_MATTER = (0.035, 50.0)
SUBCORTICAL = (0.16, 75.0)

# The isocortex that areas deviate from: layers I to VI, as share of the depth, coverage and cell radius.
_LAYERS = {
    "thickness": (0.10, 0.12, 0.26, 0.12, 0.20, 0.20),
    "coverage": (0.15, 1.20, 0.90, 1.35, 0.80, 1.05),
    "radius_um": (55.0, 66.0, 82.0, 60.0, 98.0, 74.0),
}
_DEPTHS = 128  # steps of the tabulated profiles
_SOFTNESS = 0.025  # width of the transition between two layers, share of the depth


@dataclass(frozen=True)
class Profile:
    """Coverage (share of tissue, 0 to 1) and cell radius (µm) at `_DEPTHS` depths from pial to white surface."""

    coverage: np.ndarray
    radius_um: np.ndarray


@cache
def profile_of(area: str) -> Profile:
    """Return the laminar pattern of an area, by its name alone: the same in both hemispheres and all brains."""
    gyrus = area.partition("(")[2]
    deviation = np.sqrt(KINSHIP) * stream(0, "gyrus", gyrus).normal(size=(3, 6))
    deviation += np.sqrt(1 - KINSHIP) * stream(0, "area", area).normal(size=(3, 6))
    deviation -= deviation[:, 1:].mean(axis=1, keepdims=True)
    thickness = np.array(_LAYERS["thickness"]) * np.exp(THICKNESS_SPREAD * deviation[0])
    ends = np.cumsum(thickness / thickness.sum())[:-1]
    coverage = _layered(np.array(_LAYERS["coverage"]) * np.exp(COVERAGE_SPREAD * deviation[1]), ends)
    radius = _layered(np.array(_LAYERS["radius_um"]) * np.exp(RADIUS_SPREAD * deviation[2]), ends)
    level = MEAN_COVERAGE * np.exp(MEAN_SPREAD * stream(0, "mean", area).normal())
    return Profile(_with_mean(coverage, level), np.clip(radius, *RADIUS_UM))


def _layered(values: np.ndarray, ends: np.ndarray) -> np.ndarray:
    depth = (np.arange(_DEPTHS) + 0.5) / _DEPTHS
    steps = 1 / (1 + np.exp(-(depth - ends[:, None]) / _SOFTNESS))
    return values[0] + np.diff(values) @ steps


def _with_mean(coverage: np.ndarray, level: float) -> np.ndarray:
    # More than 0.75 is one black band: cut there and raise the rest.
    for _ in range(20):
        coverage = np.clip(coverage * (level / coverage.mean()), 0.01, 0.75)
    return coverage


@dataclass(frozen=True)
class Cells:
    """Single cells: pixel and radius of each."""

    row: np.ndarray
    column: np.ndarray
    radius_um: np.ndarray


def throw_cells(rng: np.random.Generator, coverage: np.ndarray, radius_um: np.ndarray, pixel_um: float) -> Cells:
    """Throw cells at random onto a plane.

    Parameters
    ----------
    coverage : (H, W) array
        Share of tissue that cells are to cover; overlaps are allowed for.
    radius_um : (H, W) array
        Mean radius of the cells; single cells deviate by a sixth.
    """
    # Discs thrown at random leave exp(-number · area) free.
    number = -np.log1p(-coverage) * pixel_um**2 / (np.pi * radius_um**2)
    row, column = np.nonzero(rng.random(coverage.shape, dtype=np.float32) < number)
    return Cells(row, column, radius_um[row, column] * np.exp(rng.normal(0, 1 / 6, len(row))))


def draw_cells(cells: Cells, shape: tuple[int, int], pixel_um: float) -> np.ndarray:
    """Return the darkness (H, W) of a plane with cells on it: the share of each pixel that a cell covers."""
    radii = np.geomspace(RADIUS_UM[0] * 0.8, RADIUS_UM[1] * 1.25, RADIUS_CLASSES)
    nearest = np.abs(np.log(cells.radius_um[:, None] / radii)).argmin(axis=1)
    margin = int(np.ceil(radii[-1] / pixel_um)) + 1
    dark = np.zeros((shape[0] + 2 * margin, shape[1] + 2 * margin), np.float32)
    flat = dark.ravel()
    place = (cells.row + margin) * dark.shape[1] + cells.column + margin
    for k, radius_px in enumerate(radii / pixel_um):
        here = place[nearest == k]
        for row, column, share in _disc(radius_px):
            at = here + row * dark.shape[1] + column
            flat[at] = np.maximum(flat[at], share)
    return dark[margin:-margin, margin:-margin]


def _disc(radius_px: float) -> list[tuple[int, int, np.float32]]:
    """Return the pixels around a disc's centre and the share of each that it covers."""
    reach = int(np.ceil(radius_px))
    fine = (np.arange((2 * reach + 1) * 8) + 0.5) / 8 - reach - 0.5
    inside = (fine[:, None] ** 2 + fine**2 <= radius_px**2).reshape(2 * reach + 1, 8, 2 * reach + 1, 8)
    share = inside.mean(axis=(1, 3)).astype(np.float32)
    return [(r - reach, c - reach, share[r, c]) for r, c in zip(*np.nonzero(share), strict=True)]
