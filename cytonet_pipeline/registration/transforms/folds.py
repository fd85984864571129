"""Where a displacement field folds space, and which places it reaches several times.

What a fold covers has three origins, of which one is turned inside out: no single point is its inverse.
"""

import logging
from typing import Protocol

import numpy as np
from scipy.ndimage import maximum_filter
from scipy.spatial import KDTree

from cytonet_pipeline.registration.transforms.inverse import DIFFERENCE_MM, newton
from cytonet_pipeline.registration.transforms.jacobian import jacobian_determinant

# Places per cell and axis where the determinant is evaluated: smaller folds are not seen. Fewer in fields with very
# many cells that may fold, so that the search ends: about 100 s at most on a slow core.
_PER_AXIS = (4, 2, 1)
_MOST_PLACES = 1 << 24
_CELLS_AT_ONCE = 4096
# A field that folds at more than this share of its grid is no registration. Where that is quickly seen its folds are
# searched all the same; in large fields the search would take many minutes, and its inverse is given up.
_HOPELESS_SHARE = 0.1
_QUICK_CELLS = 1 << 15
_SAMPLED_CELLS = 2048
_STARTS = 8
_SAME_MM = 0.01


_log = logging.getLogger(__name__)


class GriddedField(Protocol):
    """What the search for folds needs of a displacement field (`fields.Field`)."""

    dimension: int
    values_mm: np.ndarray
    grid_to_mm: np.ndarray
    spline_order: int

    @property
    def spacing_mm(self) -> np.ndarray:
        """Distance of neighbouring grid points along each axis, (dimension,)."""

    def covers(self, points_mm: np.ndarray) -> np.ndarray:
        """Tell which points (N, dimension) lie within the field, (N,) bool."""

    def continued(self, points_mm: np.ndarray) -> np.ndarray:
        """Move points by the field as it is continued beyond its border."""


class Folds:
    """The folded places of a field, and where it maps them.

    Parameters
    ----------
    field : GriddedField
        Its cells are searched once; those whose displacement changes too little to fold are skipped.

    Attributes
    ----------
    hopeless : str
        Why no inverse can be expected anywhere, with figures; '' where one can.
    """

    def __init__(self, field: GriddedField) -> None:
        self._forward = field.continued
        cells = np.argwhere(_may_fold(field))
        self.hopeless = _hopeless(field, cells)
        if self.hopeless:
            _log.warning("No inverse is computed: %s.", self.hopeless)
        self._places_mm = _folded_places(field, cells[:0] if self.hopeless else cells)
        self._images = KDTree(self._forward(self._places_mm)) if len(self._places_mm) else None
        # Places are a quarter of a cell apart: their images lie closer than this also where the field stretches a lot.
        self._reach_mm = float(np.linalg.norm(field.spacing_mm))

    def cover(self, targets: np.ndarray, solutions: np.ndarray) -> np.ndarray:
        """Tell which targets (N, d) have a second origin, or one where space is turned inside out; (N,) bool.

        Parameters
        ----------
        solutions : (N, d) array
            An origin of each target, NaN where none is known.
        """
        covered = np.zeros(len(targets), dtype=bool)
        solved = np.flatnonzero(np.isfinite(solutions).all(axis=1))
        if self._images is None or len(solved) == 0:
            return covered
        distance, nearest = self._images.query(targets[solved], k=_STARTS, distance_upper_bound=self._reach_mm)
        near = np.isfinite(distance[:, 0])
        solved, nearest = solved[near], nearest[near]
        covered[solved] = jacobian_determinant(self._forward, solutions[solved], step_mm=DIFFERENCE_MM) <= 0
        for start in nearest.T:
            open_ = ~covered[solved] & (start < len(self._places_mm))
            points = solved[open_]
            other = newton(self._forward, self._places_mm[start[open_]], targets[points])
            off_mm = np.linalg.norm(other - solutions[points], axis=1)
            covered[points] = off_mm > _SAME_MM
        return covered


def _hopeless(field: GriddedField, cells: np.ndarray) -> str:
    """Estimate from some of the cells (N, d) that may fold whether too much of the field does."""
    if len(cells) <= _QUICK_CELLS:
        return ""
    sampled = cells[np.linspace(0, len(cells) - 1, _SAMPLED_CELLS).astype(int)]
    size = int(np.prod(field.values_mm.shape[1:]))
    share = len(_folded_places(field, sampled, per_axis=2)) / (2**field.dimension * _SAMPLED_CELLS) * len(cells) / size
    if share <= _HOPELESS_SHARE:
        return ""
    return f"the field folds space at about {share:.0%} of its {size:,} grid points"


def _folded_places(field: GriddedField, cells: np.ndarray, per_axis: int = 0) -> np.ndarray:
    """Return the places (N, d) mm in cells where the determinant is not positive."""
    dimension = field.dimension
    if not per_axis:
        fitting = [n for n in _PER_AXIS if len(cells) * n**dimension <= _MOST_PLACES]
        per_axis = fitting[0] if fitting else _PER_AXIS[-1]
    if len(cells) * per_axis**dimension > _MOST_PLACES // 8:
        _log.info("Looking for folds in %d cells of a displacement field; this takes a minute or two.", len(cells))
    steps = (np.arange(per_axis) + 0.5) / per_axis - 0.5
    within = np.stack(np.meshgrid(*[steps] * dimension, indexing="ij"), axis=-1).reshape(-1, dimension)
    folded = [np.empty((0, dimension))]
    for first in range(0, len(cells), _CELLS_AT_ONCE):
        index = (cells[first : first + _CELLS_AT_ONCE, None, :] + within).reshape(-1, dimension)
        places = index @ field.grid_to_mm[:-1, :-1].T + field.grid_to_mm[:-1, -1]
        places = places[field.covers(places)]
        folded.append(places[jacobian_determinant(field.continued, places, step_mm=DIFFERENCE_MM) <= 0])
    return np.concatenate(folded)


def _may_fold(field: GriddedField) -> np.ndarray:
    """Mark grid points in whose cell the displacement changes by 1 mm per mm or more: less cannot fold space.

    The Frobenius norm bounds the operator norm, and det(1 + D) > 0 while that is below 1. Between grid points a linear
    or spline interpolation changes no faster than between the grid points that it is computed from.
    """
    steepest = np.zeros(field.values_mm.shape[1:])
    for axis, spacing_mm in enumerate(field.spacing_mm):
        step = np.square(np.diff(field.values_mm, axis=axis + 1)).sum(axis=0) / spacing_mm**2
        both = np.zeros_like(steepest)
        at: list[slice] = [slice(None)] * step.ndim
        for side in (slice(None, -1), slice(1, None)):
            at[axis] = side
            both[tuple(at)] = np.maximum(both[tuple(at)], step)
        steepest += maximum_filter(both, size=2 * field.spline_order + 1)
    return steepest >= 1
