"""Where a displacement field folds space, and which places it reaches several times.

What a fold covers has three origins, of which one is turned inside out: no single point is its inverse.
"""

from typing import Protocol

import numpy as np
from scipy.ndimage import maximum_filter
from scipy.spatial import KDTree

from cytonet_pipeline.registration.transforms.inverse import DIFFERENCE_MM, newton
from cytonet_pipeline.registration.transforms.jacobian import jacobian_determinant

# Places per cell and axis where the determinant is evaluated: smaller folds are not seen.
_WITHIN_CELL = (np.arange(4) + 0.5) / 4 - 0.5
_CELLS_AT_ONCE = 4096
_STARTS = 8
_SAME_MM = 0.01


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
    """

    def __init__(self, field: GriddedField) -> None:
        self._forward = field.continued
        self._places_mm = _folded_places(field)
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


def _folded_places(field: GriddedField) -> np.ndarray:
    """Return the places (N, d) mm where the determinant is not positive."""
    cells = np.argwhere(_may_fold(field))
    dimension = field.dimension
    within = np.stack(np.meshgrid(*[_WITHIN_CELL] * dimension, indexing="ij"), axis=-1).reshape(-1, dimension)
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
