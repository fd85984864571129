"""Fields that hold positions instead of displacements, as SPM and NiftyReg write them."""

from functools import cached_property

import numpy as np

from cytonet_pipeline.registration.transforms.fields import DisplacementField, Field, FieldInverse
from cytonet_pipeline.registration.transforms.point_transform import Affine, chunks_of, in_threads

# Grid points from which the linear part is estimated: about this many along each axis.
_FITTED_PER_AXIS = 12


class PositionField(Field):
    """A position for each point of a grid, linearly interpolated; no image beyond its border.

    Parameters
    ----------
    values_mm : (dimension, n_1, …, n_dimension) array
        Where the grid points are mapped to (mm), component first.
    grid_to_mm : (dimension + 1, dimension + 1) array
        Affine from grid indices to the source space.
    """

    kind = "position field"
    spline_order = 1

    @property
    def _limits(self) -> tuple[float, np.ndarray]:
        return 0.0, np.array(self.values_mm.shape[1:]) - 1.0

    def _map(self, points: np.ndarray) -> np.ndarray:
        index = self._mm_to_grid._map(points)
        mapped = np.full(points.shape, np.nan)
        inside = self._inside(index)
        mapped[inside] = self._displacement(index[inside])
        return mapped

    def continued(self, points_mm: np.ndarray) -> np.ndarray:
        """Map points by the field as it is continued beyond its border, by its linear part."""
        residual, linear = self.split
        return linear(residual.continued(points_mm))

    @cached_property
    def split(self) -> tuple[DisplacementField, Affine]:
        """The field as a displacement and an affine applied after it: what inverses are computed from."""
        linear = linear_part(self.values_mm, self.grid_to_mm)
        inverse = linear.inverse().matrix[:-1]
        axes = self.values_mm.shape[1:]
        residual = np.empty(self.values_mm.shape)
        for row, out, place in zip(inverse, residual, _places(self.grid_to_mm, axes), strict=True):
            out[...] = row[-1]
            for weight, component in zip(row, self.values_mm, strict=False):
                out += weight * component
            out -= place
        return DisplacementField(residual, self.grid_to_mm), linear

    def inverse(self) -> "PositionInverse":
        """Return the numerical inverse: NaN where there is none."""
        return PositionInverse(self)


class PositionInverse(FieldInverse):
    """The numerical inverse of a position field: of its linear part, then of the displacement that remains."""

    def __init__(self, field: PositionField) -> None:
        super().__init__(field)
        residual, linear = field.split
        self._residual = residual.inverse()
        self._linear = linear.inverse()

    def _map_into(self, mapped: np.ndarray, points: np.ndarray) -> None:
        self._linear._map_into(mapped, points)
        self._residual._map_into(mapped, mapped)

        def refuse_outside(chunk: slice) -> None:
            # Outside the grid there is no image, and nothing stays where it is.
            mapped[chunk][~self.field.covers(mapped[chunk])] = np.nan

        in_threads(refuse_outside, chunks_of(len(mapped)))

    @property
    def undefined(self) -> str:
        """See `PointTransform.undefined`."""
        return self._residual.undefined


def linear_part(values_mm: np.ndarray, grid_to_mm: np.ndarray) -> Affine:
    """Return the affine map nearest to what a grid of vectors says of its points, by least squares."""
    places, values = _samples(values_mm, grid_to_mm)
    solution = np.linalg.lstsq(places, values, rcond=None)[0]
    matrix = np.eye(len(grid_to_mm))
    matrix[:-1] = solution.T
    return Affine(matrix)


def gradient_of(values_mm: np.ndarray, grid_to_mm: np.ndarray) -> np.ndarray:
    """Return by how much vectors grow per mm of their place over the whole grid, (d, d): component by axis."""
    places, values = _samples(values_mm, grid_to_mm)
    return np.linalg.lstsq(places, values, rcond=None)[0][:-1].T


def _samples(values_mm: np.ndarray, grid_to_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return homogeneous places (N, d + 1) of a thinned grid, and the vectors there (N, d)."""
    thinned = [np.unique(np.linspace(0, n - 1, min(n, _FITTED_PER_AXIS)).astype(int)) for n in values_mm.shape[1:]]
    index = np.stack(np.meshgrid(*thinned, indexing="ij"), axis=-1).reshape(-1, len(thinned))
    places = np.concatenate([index @ grid_to_mm[:-1, :-1].T + grid_to_mm[:-1, -1], np.ones((len(index), 1))], axis=1)
    return places, np.asarray(values_mm[(slice(None), *index.T)].T, dtype=np.float64)


def _places(grid_to_mm: np.ndarray, axes: tuple[int, ...]) -> list[np.ndarray]:
    """Return each coordinate (mm) of all grid points, in arrays of the grid's shape."""
    index = np.meshgrid(*[np.arange(n, dtype=np.float64) for n in axes], indexing="ij", sparse=True)
    return [
        sum((weight * i for weight, i in zip(row, index, strict=False)), np.full(axes, row[-1]))
        for row in grid_to_mm[:-1]
    ]
