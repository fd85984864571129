"""Where the cortex of a reference space is, on a grid: a hundred million places are looked up instead of searched for.

Distances to the surfaces are taken once at every voxel and interpolated between them; that is exact to a tenth of a mm
or so, enough for masks and tiles.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cytonet_pipeline.phantom.reference import Reference

_MARGIN_MM = 4.0
_CHUNK = 1 << 18
_THREADS = 2


@dataclass(frozen=True)
class CortexGrid:
    """Signed distances from the surfaces and the nearest white vertex, at the points of a grid.

    Attributes
    ----------
    pial_mm, white_mm : (X, Y, Z) float32 arrays
        Positive outside.
    vertex : (X, Y, Z) int32 array
        Vertices of both hemispheres one after the other, as in `Reference.label`.
    first_mm : (3,) array
        Position of the first point.
    step_mm : float
        Distance of neighbouring points.
    """

    pial_mm: np.ndarray
    white_mm: np.ndarray
    vertex: np.ndarray
    first_mm: np.ndarray
    step_mm: float

    @classmethod
    def of(cls, reference: Reference, step_mm: float = 1.0) -> "CortexGrid":
        """Measure a reference space."""
        low, high = reference.extent_mm()
        first = np.floor(low - _MARGIN_MM)
        shape = tuple((np.ceil((high + _MARGIN_MM - first) / step_mm).astype(int) + 1).tolist())
        indices = np.stack(np.unravel_index(np.arange(np.prod(shape)), shape), axis=1)
        points = indices * step_mm + first
        rough = _rough(reference, points.reshape(*shape, 3))
        chunks = [slice(start, start + _CHUNK) for start in range(0, len(points), _CHUNK)]
        with ThreadPoolExecutor(_THREADS) as threads:
            found = list(threads.map(lambda part: reference.distances_mm(points[part], rough[part]), chunks))
        pial, white, vertex = (np.concatenate(parts).reshape(shape) for parts in zip(*found, strict=True))
        return cls(pial.astype(np.float32), white.astype(np.float32), vertex.astype(np.int32), first, step_mm)

    def distances_mm(self, points_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the signed distances of points (N, 3) from the pial and the white surface."""
        at = ((points_mm - self.first_mm) / self.step_mm).T
        pial, white = (ndimage.map_coordinates(v, at, order=1, mode="nearest") for v in (self.pial_mm, self.white_mm))
        return pial, white

    def vertex_at(self, points_mm: np.ndarray) -> np.ndarray:
        """Return the white vertex nearest to points (N, 3), looked up at the nearest point of the grid."""
        at = np.round((points_mm - self.first_mm) / self.step_mm).astype(int)
        at = np.clip(at, 0, np.array(self.vertex.shape) - 1)
        return self.vertex[tuple(at.T)]


def _rough(reference: Reference, points: np.ndarray) -> np.ndarray:
    """Return rough distances of grid points from the pial surface: measured at every third, linear in between."""
    coarse = points[::3, ::3, ::3]
    measured = reference.pial_distance_mm(coarse.reshape(-1, 3)).reshape(coarse.shape[:3])
    at = np.stack(np.meshgrid(*(np.arange(n) / 3 for n in points.shape[:3]), indexing="ij")).reshape(3, -1)
    return ndimage.map_coordinates(measured, at, order=1, mode="nearest")
