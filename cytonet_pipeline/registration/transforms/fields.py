"""Displacement fields and their inverses.

As in `point_transform`, points are millimetres, RAS (scan plane: x right, y down), float64.
"""

import logging
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import map_coordinates

from cytonet_pipeline.errors import TransformError
from cytonet_pipeline.registration.transforms.folds import Folds
from cytonet_pipeline.registration.transforms.inverse import solve, solve_from_nearby
from cytonet_pipeline.registration.transforms.point_transform import Affine, PointTransform, chunks_of, in_threads
from cytonet_pipeline.store import digest_array

# Points of one call for which a search that failed starts again elsewhere: about a minute of one core. Chains of
# registrations need it for none or for a few.
_MOST_RESTARTED = 1 << 18
_log = logging.getLogger(__name__)


class Field(PointTransform):
    """A displacement on a grid: point ↦ point + interpolated values at the point; no displacement off the grid.

    Parameters
    ----------
    values_mm : (dimension, n_1, …, n_dimension) array
        What is interpolated (mm), component first.
    grid_to_mm : (dimension + 1, dimension + 1) array
        Affine from grid indices to the source space.
    """

    kind: str
    spline_order: int

    def __init__(self, values_mm: np.ndarray, grid_to_mm: np.ndarray) -> None:
        self.dimension = values_mm.ndim - 1
        if len(values_mm) != self.dimension or grid_to_mm.shape != (self.dimension + 1,) * 2:
            raise ValueError(f"a field of {values_mm.shape} does not fit a grid of {grid_to_mm.shape}")
        if not np.isfinite(values_mm).all():
            raise TransformError(
                "the displacement field holds values that are not numbers.", to_fix="write the field again"
            )
        self.values_mm = _lossless_float32(values_mm)
        self.grid_to_mm = np.array(grid_to_mm, dtype=np.float64)
        self._mm_to_grid = Affine(self.grid_to_mm).inverse()

    @property
    @abstractmethod
    def _limits(self) -> tuple[float, np.ndarray]:
        """The lowest and highest grid position that the field covers."""

    def _map(self, points: np.ndarray) -> np.ndarray:
        index = self._mm_to_grid._map(points)
        inside = self._inside(index)
        mapped = points.copy()
        if inside.all():
            mapped += self._displacement(index)
        elif inside.any():
            mapped[inside] += self._displacement(index[inside])
        # A point with a missing coordinate has no position at all.
        mapped[np.isnan(points).any(axis=1)] = np.nan
        return mapped

    def covers(self, points_mm: np.ndarray) -> np.ndarray:
        """Tell which points (N, dimension) lie within the field, (N,) bool."""
        return self._inside(self._mm_to_grid._map(points_mm))

    def continued(self, points_mm: np.ndarray) -> np.ndarray:
        """Move points by the field as it is continued beyond its border, with the displacement at the border."""
        index = self._mm_to_grid._map(points_mm)
        return points_mm + self._displacement(np.clip(index, *self._limits))

    def _displacement(self, index: np.ndarray) -> np.ndarray:
        coordinates = np.ascontiguousarray(index.T)
        displacement = np.empty_like(coordinates)
        for component, values in zip(displacement, self.values_mm, strict=True):
            map_coordinates(
                values, coordinates, output=component, order=self.spline_order, mode="nearest", prefilter=False
            )
        return displacement.T

    def _inside(self, index: np.ndarray) -> np.ndarray:
        lowest, highest = self._limits
        return np.all((index >= lowest) & (index <= highest), axis=1)

    @property
    def spacing_mm(self) -> np.ndarray:
        """Distance between neighbouring grid points along each axis, (dimension,)."""
        return np.linalg.norm(self.grid_to_mm[:-1, :-1], axis=0)

    @cached_property
    def folds(self) -> Folds:
        """Where the field folds: searched once, however many inverses are made of it."""
        return Folds(self)

    def inverse(self) -> "FieldInverse":
        """Return the numerical inverse: NaN where there is none."""
        return FieldInverse(self)

    @cached_property
    def _record(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "grid": list(self.values_mm.shape[1:]),
            "grid_to_mm": self.grid_to_mm.tolist(),
            "values": digest_array(self.values_mm),
        }

    def to_json(self) -> dict[str, Any]:
        """Describe the field by its grid and a digest of its values."""
        return self._record


class DisplacementField(Field):
    """A displacement sampled on a grid, linearly interpolated.

    As in ITK the field covers whole voxels: it extends half a voxel beyond the outermost centres, with the value at
    the border there, and displaces nothing outside.
    """

    kind = "displacement field"
    spline_order = 1

    @property
    def _limits(self) -> tuple[float, np.ndarray]:
        # The upper border itself is outside, as in ITK.
        return -0.5, np.nextafter(np.array(self.values_mm.shape[1:]) - 0.5, 0)


class BSplineField(Field):
    """A displacement given by cubic B-spline coefficients (ITK's BSplineTransform, order 3)."""

    kind = "B-spline field"
    spline_order = 3

    @property
    def _limits(self) -> tuple[float, np.ndarray]:
        # A cubic spline needs two coefficients on either side; ITK counts the upper border as inside.
        return 1.0, np.array(self.values_mm.shape[1:]) - 2.0


class FieldInverse(PointTransform):
    """The numerical inverse of a displacement field.

    The field is continued beyond its border for the search, so that the search meets no jump; a solution counts only
    within the field itself. A point that the field reaches from inside is traced back there, even where it could also
    be a point outside that never moved. NaN where there is no solution, and where there are several because the field
    folds: never a guess.

    An inverse that the registration wrote to a file is used instead where there is one; `quality` measures how well the
    two agree.
    """

    def __init__(self, field: Field) -> None:
        self.field = field
        self.dimension = field.dimension
        self.notes = field.notes

    @property
    def undefined(self) -> str:
        """See `PointTransform.undefined`."""
        return self.field.folds.hopeless

    def _map_into(self, mapped: np.ndarray, points: np.ndarray) -> None:
        if self.undefined:
            mapped[:] = np.nan
            return
        unfinished: list[_Unfinished] = []

        def begin(chunk: slice) -> None:
            targets = np.array(points[chunk], dtype=np.float64)
            solution, unsolved = solve(self.field.continued, targets)
            if len(unsolved):
                unfinished.append(_Unfinished(chunk, targets, unsolved))
            else:
                self._settle(targets, solution)
            mapped[chunk] = solution

        def finish(part: _Unfinished) -> None:
            solution = mapped[part.chunk]
            solve_from_nearby(self.field.continued, part.targets, solution, part.unsolved[: part.searched])
            self._settle(part.targets, solution)
            # Whether they have moved is not known either.
            solution[part.unsolved[part.searched :]] = np.nan

        in_threads(begin, chunks_of(len(points)))
        in_threads(finish, _shared_out(unfinished))

    def _map(self, points: np.ndarray) -> np.ndarray:
        return self(points)

    def _settle(self, points: np.ndarray, solution: np.ndarray) -> None:
        """Keep what the search found only where it is the one origin of a point, and within the field."""
        covered = self.field.folds.cover(points, solution)
        unmoved = ~self.field.covers(solution)
        # Not reached from inside: then the point has not moved, if it lies outside the field.
        solution[unmoved] = np.where(self.field.covers(points[unmoved])[:, None], np.nan, points[unmoved])
        solution[covered] = np.nan

    def inverse(self) -> Field:
        """Return the field that this inverts."""
        return self.field

    def to_json(self) -> dict[str, Any]:
        """Describe the field that is inverted."""
        return {"kind": "numeric inverse", "of": self.field.to_json()}


class _Unfinished(NamedTuple):
    """The targets of a chunk of points, (N, d), and the indices of those that have no solution yet.

    The first `searched` of them are searched again, the others are given up.
    """

    chunk: slice
    targets: np.ndarray
    unsolved: np.ndarray
    searched: int = 0


def _shared_out(unfinished: Sequence[_Unfinished]) -> list[_Unfinished]:
    """Limit the points of a call whose search starts again: the first ones, up to a number.

    A number, and not a time: the result must not depend on the machine.
    """
    left, shared = _MOST_RESTARTED, []
    for part in sorted(unfinished, key=lambda part: part.chunk.start):
        shared.append(part._replace(searched=min(left, len(part.unsolved))))
        left -= shared[-1].searched
    waiting = sum(len(part.unsolved) for part in unfinished)
    if waiting > _MOST_RESTARTED:
        _log.warning(
            "The inverse of a displacement field is not found at %d points in the first search: it is searched again "
            "for %d of them, and %d are given up and have no image. Map fewer points at once, or register again with "
            "more regularisation.",
            waiting,
            _MOST_RESTARTED,
            waiting - _MOST_RESTARTED,
        )
    return shared


def _lossless_float32(values: np.ndarray) -> np.ndarray:
    # ANTs writes float32 and ITK returns float64: half the memory and twice the speed for the same numbers.
    with np.errstate(over="ignore"):
        narrow = np.ascontiguousarray(values, dtype=np.float32)
    return narrow if np.array_equal(narrow, values) else np.ascontiguousarray(values, dtype=np.float64)
