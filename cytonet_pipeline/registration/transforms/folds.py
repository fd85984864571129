"""Where a displacement field folds space, and which places it reaches several times.

What a fold covers has three origins, of which one is turned inside out: no single point is its inverse.
"""

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import maximum_filter
from scipy.spatial import KDTree

from cytonet_pipeline.registration.transforms.newton import Map, determinants, newton

if TYPE_CHECKING:
    from cytonet_pipeline.registration.transforms.kinds import Field

# Places per cell and axis where the determinant is looked at: a fold smaller than that is not seen.
_WITHIN_CELL = (np.arange(4) + 0.5) / 4 - 0.5
_CELLS_AT_ONCE = 4096
_STARTS = 8
_SAME_MM = 0.01


class Folds:
    """The folded places of a field, and where it takes them.

    Parameters
    ----------
    field : Field
        Its cells are searched once; those whose displacement changes too little to fold are passed over.
    """

    def __init__(self, field: "Field") -> None:
        self._forward: Map = field.continued
        self._places_mm = _folded_places(field)
        self._images = KDTree(self._forward(self._places_mm)) if len(self._places_mm) else None
        # Places are a quarter of a cell apart: their images lie closer than this also where the field stretches a lot.
        self._reach_mm = float(np.linalg.norm(field.spacing_mm))

    @property
    def any(self) -> bool:
        """Whether the field folds at all."""
        return self._images is not None

    def cover(self, targets: np.ndarray, solutions: np.ndarray) -> np.ndarray:
        """Whether targets (N, d) have another origin than the one that was found, or one that is inside out; (N,) bool.

        Parameters
        ----------
        solutions : (N, d) array
            An origin of each target, NaN where none was found.
        """
        covered = np.zeros(len(targets), dtype=bool)
        asked = np.flatnonzero(np.isfinite(solutions).all(axis=1))
        if self._images is None or len(asked) == 0:
            return covered
        distance, nearest = self._images.query(targets[asked], k=_STARTS, distance_upper_bound=self._reach_mm)
        near = np.isfinite(distance[:, 0])
        asked, nearest = asked[near], nearest[near]
        covered[asked] = determinants(self._forward, solutions[asked]) <= 0
        for start in nearest.T:
            open_ = ~covered[asked] & (start < len(self._places_mm))
            who = asked[open_]
            other = newton(self._forward, self._places_mm[start[open_]], targets[who])
            off_mm = np.linalg.norm(other - solutions[who], axis=1)
            covered[who] = off_mm > _SAME_MM
        return covered


def _folded_places(field: "Field") -> np.ndarray:
    """Places (N, d) mm where the determinant is not positive."""
    cells = np.argwhere(_may_fold(field))
    dimension = field.dimension
    within = np.stack(np.meshgrid(*[_WITHIN_CELL] * dimension, indexing="ij"), axis=-1).reshape(-1, dimension)
    found = [np.empty((0, dimension))]
    for first in range(0, len(cells), _CELLS_AT_ONCE):
        index = (cells[first : first + _CELLS_AT_ONCE, None, :] + within).reshape(-1, dimension)
        places = index @ field.grid_to_mm[:-1, :-1].T + field.grid_to_mm[:-1, -1]
        places = places[field.covers(places)]
        found.append(places[determinants(field.continued, places) <= 0])
    return np.concatenate(found)


def _may_fold(field: "Field") -> np.ndarray:
    """Grid points in whose cell the displacement changes by 1 mm a mm or more: less cannot turn space inside out.

    The Frobenius norm bounds the operator norm, and det(1 + D) > 0 while that is below 1. Between grid points a linear
    or spline interpolation changes no faster than between those that it is made of.
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
