"""Point transforms between the spaces of a brain: scan plane, brain, reference.

Everything here maps points in millimetres, RAS (scan plane: x right, y down), float64. ITK's LPS stays inside
`_itk.py`; images are never resampled here. A transform is immutable; NaN in gives NaN out.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
from scipy.ndimage import map_coordinates

from cytonet_pipeline.errors import TransformError
from cytonet_pipeline.store import digest_array, digest_of

# So many points fit the caches together with the intermediate arrays; memory does not grow with the number of points.
_CHUNK_POINTS = 1 << 16
# map_coordinates lets go of the interpreter: a second thread helps, more fight for the memory.
_THREADS = 2


class PointTransform(ABC):
    """A map from points to points; `dimension` is 3, or 2 for warps of the scan plane."""

    dimension: int

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        """Map points.

        Parameters
        ----------
        points_mm : (N, dimension) array
            Positions in the source space (mm; RAS in three dimensions).

        Returns
        -------
        (N, dimension) float64 array
            Positions in the target space (mm). NaN where a coordinate was NaN, or where there is no image.
        """
        points = np.asarray(points_mm)
        if points.ndim != 2 or points.shape[1] != self.dimension:
            raise ValueError(f"expected points of shape (N, {self.dimension}), got {points.shape}")
        mapped = np.empty(points.shape, dtype=np.float64)
        chunks = [slice(start, start + _CHUNK_POINTS) for start in range(0, len(points), _CHUNK_POINTS)]

        def _map_chunk(chunk: slice) -> None:
            # Other types become float64 here: a copy of all points would grow with their number.
            mapped[chunk] = self._map(np.asarray(points[chunk], dtype=np.float64))

        if len(chunks) < 4:
            for chunk in chunks:
                _map_chunk(chunk)
        else:
            with ThreadPoolExecutor(_THREADS) as threads:
                list(threads.map(_map_chunk, chunks))
        return mapped

    @abstractmethod
    def _map(self, points: np.ndarray) -> np.ndarray:
        """Map one chunk of points."""

    @abstractmethod
    def inverse(self) -> "PointTransform":
        """The map back. Exact for affines, numerical for fields (`inverse.FieldInverse`)."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """What the transform is, for records: small, with digests in place of fields."""

    @property
    def digest(self) -> str:
        """Digest of what the transform does, whatever file it came from."""
        return digest_of(self.to_json())


class Affine(PointTransform):
    """A linear map with a shift.

    Parameters
    ----------
    matrix : (4, 4) or (3, 3) array
        Homogeneous matrix; its size says whether it acts in space or in the plane.

    Raises
    ------
    TransformError
        The matrix is singular or holds something that is not a number.
    """

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix = np.array(matrix, dtype=np.float64)
        if self.matrix.shape not in {(4, 4), (3, 3)}:
            raise ValueError(f"expected a 4 × 4 or 3 × 3 matrix, got {self.matrix.shape}")
        self.dimension = len(self.matrix) - 1
        linear = self.matrix[:-1, :-1]
        if not np.isfinite(self.matrix).all() or np.linalg.cond(linear) > 1e10:
            raise TransformError(
                f"the matrix {linear.round(6).tolist()} is singular: it flattens space and has no inverse.",
                to_fix="write the transform again from the registration",
            )

    def _map(self, points: np.ndarray) -> np.ndarray:
        return points @ self.matrix[:-1, :-1].T + self.matrix[:-1, -1]

    def inverse(self) -> "Affine":
        """The exact inverse."""
        return Affine(np.linalg.inv(self.matrix))

    def to_json(self) -> dict[str, Any]:
        """The matrix itself."""
        return {"kind": "affine", "matrix": self.matrix.tolist()}


class Field(PointTransform):
    """A displacement on a grid: `point + interpolated(values at point)`; no displacement off the grid.

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
        """Lowest and highest grid position that the field covers."""

    def _map(self, points: np.ndarray) -> np.ndarray:
        index = self._mm_to_grid._map(points)
        inside = self._inside(index)
        mapped = points.copy()
        if inside.all():
            mapped += self._displacement(index)
        elif inside.any():
            mapped[inside] += self._displacement(index[inside])
        # A point with one coordinate missing has no place at all.
        mapped[np.isnan(points).any(axis=1)] = np.nan
        return mapped

    def covers(self, points_mm: np.ndarray) -> np.ndarray:
        """Whether points (N, dimension) lie where the field is, (N,) bool."""
        return self._inside(self._mm_to_grid._map(points_mm))

    def continued(self, points_mm: np.ndarray) -> np.ndarray:
        """Points moved as by a field that goes on beyond its border with the displacement of the border."""
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
        """Distance of neighbouring grid points along each axis, (dimension,)."""
        return np.linalg.norm(self.grid_to_mm[:-1, :-1], axis=0)

    def inverse(self) -> PointTransform:
        """The numerical inverse: NaN where there is none."""
        from cytonet_pipeline.registration.transforms.inverse import FieldInverse

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
        """The grid, and a digest of the values."""
        return self._record


class DisplacementField(Field):
    """A displacement sampled on a grid, linearly interpolated.

    As in ITK the field covers whole voxels: it reaches half a voxel beyond the outermost centres, with the value of
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
        # A cubic spline needs two coefficients to either side; ITK takes the upper border as still inside.
        return 1.0, np.array(self.values_mm.shape[1:]) - 2.0


class Chain(PointTransform):
    """Transforms one after the other; the first of the list is applied first.

    Parameters
    ----------
    members : sequence of PointTransform
    names : sequence of str, optional
        What to call the members in messages, such as the files they came from.
    """

    def __init__(self, members: Sequence[PointTransform], names: Sequence[str] = ()) -> None:
        self.members = tuple(members)
        self.names = tuple(names)
        dimensions = {member.dimension for member in self.members}
        if len(dimensions) != 1:
            raise TransformError(
                f"a chain of transforms in {sorted(dimensions)} dimensions cannot be applied.",
                to_fix="name transforms of one space only, at least one",
            )
        self.dimension = dimensions.pop()

    def _map(self, points: np.ndarray) -> np.ndarray:
        for member in self.members:
            points = member._map(points)
        return points

    def inverse(self) -> "Chain":
        """Each member inverted, in reverse order."""
        return Chain([member.inverse() for member in reversed(self.members)])

    def to_json(self) -> dict[str, Any]:
        """The members, first applied first."""
        return {"kind": "chain", "members": [member.to_json() for member in self.members]}


def _lossless_float32(values: np.ndarray) -> np.ndarray:
    # ANTs writes float32 and ITK hands out float64: half the memory and twice the speed for the same numbers.
    narrow = np.ascontiguousarray(values, dtype=np.float32)
    return narrow if np.array_equal(narrow, values) else np.ascontiguousarray(values, dtype=np.float64)
