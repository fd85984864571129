"""What makes one brain different from another: how it is bent, and where its areas end.

The two are independent. If areas followed the transform alone, a position in the reference space would decide the
label, and nothing could be learnt from the tissue.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK
from scipy import ndimage
from scipy.spatial import cKDTree

from cytonet_pipeline.phantom.draws import SmoothField, stream
from cytonet_pipeline.phantom.itk_files import displacement_field, write_transform
from cytonet_pipeline.phantom.reference import Reference

BEND_RMS_MM = 2.2
BEND_WAVELENGTH_MM = (70.0, 130.0)
GRID_MM = 4.0
_MARGIN_MM = 28.0
# How far an area border wanders on the inflated surface from brain to brain.
BORDER_RMS_MM = 2.6
BORDER_WAVELENGTH_MM = (25.0, 70.0)


@dataclass(frozen=True)
class Bend:
    """Points of brain space to the reference: a displacement on a grid, then an affine. RAS mm.

    Attributes
    ----------
    field_mm : (X, Y, Z, 3) array
        Displacement at the points `first_mm + GRID_MM · (i, j, k)`; between them linear, outside none.
    """

    field_mm: np.ndarray
    first_mm: np.ndarray
    matrix: np.ndarray
    offset_mm: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, extent_mm: tuple[np.ndarray, np.ndarray]) -> "Bend":
        """Draw a brain's bend; `extent_mm` is what the reference's surfaces span."""
        angles = np.radians(rng.uniform(-3, 3, 3))
        scale = np.diag(rng.uniform(0.96, 1.04, 3))
        matrix = SimpleITK.Euler3DTransform((0, 0, 0), *angles).GetMatrix()
        first = np.floor((extent_mm[0] - _MARGIN_MM) / GRID_MM) * GRID_MM
        shape = np.ceil((extent_mm[1] + _MARGIN_MM - first) / GRID_MM).astype(int) + 1
        where = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1) * GRID_MM + first
        smooth = SmoothField.draw(rng, rms=BEND_RMS_MM, wavelength_mm=BEND_WAVELENGTH_MM, components=3)
        field = smooth(where.reshape(-1, 3)).reshape(*shape, 3)
        last = first + GRID_MM * (shape - 1)
        edge = np.minimum(where - first, last - where).min(axis=-1, keepdims=True)
        field *= np.clip(edge / (_MARGIN_MM / 2), 0, 1)
        return cls(field, first, np.reshape(matrix, (3, 3)) @ scale, rng.uniform(-3, 3, 3))

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        """Return the positions (N, 3) in the reference of points (N, 3) of the brain."""
        return (points_mm + self.displacement(points_mm)) @ self.matrix.T + self.offset_mm

    def displacement(self, points_mm: np.ndarray) -> np.ndarray:
        """Return the field at points (N, 3), interpolated linearly as ITK does."""
        at = ((points_mm - self.first_mm) / GRID_MM).T
        parts = [ndimage.map_coordinates(self.field_mm[..., k], at, order=1, mode="constant") for k in range(3)]
        return np.stack(parts, axis=1)

    def inverse(self, points_mm: np.ndarray, iterations: int = 25) -> np.ndarray:
        """Return the positions (N, 3) in the brain of points (N, 3) of the reference, by fixed-point iteration."""
        straight = (points_mm - self.offset_mm) @ np.linalg.inv(self.matrix).T
        found = straight
        for _ in range(iterations):
            found = straight - self.displacement(found)
        return found

    def write(self, path: Path) -> None:
        """Write an ITK composite; its last transform, the field, is applied first."""
        affine = SimpleITK.AffineTransform(3)
        flip = np.diag([-1.0, -1.0, 1.0])
        affine.SetMatrix((flip @ self.matrix @ flip).ravel().tolist())
        affine.SetTranslation((flip @ self.offset_mm).tolist())
        field = displacement_field(self.field_mm, self.first_mm, GRID_MM)
        write_transform(SimpleITK.CompositeTransform([affine, field]), path)

    def write_inverse(self, path: Path, extent_mm: tuple[np.ndarray, np.ndarray]) -> None:
        """Write the inverse as one displacement field over the reference."""
        first = np.floor((extent_mm[0] - 12.0) / GRID_MM) * GRID_MM
        shape = np.ceil((extent_mm[1] + 12.0 - first) / GRID_MM).astype(int) + 1
        where = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1) * GRID_MM + first
        points = where.reshape(-1, 3)
        field = (self.inverse(points) - points).reshape(*shape, 3)
        write_transform(SimpleITK.CompositeTransform([displacement_field(field, first, GRID_MM)]), path)


def shifted_labels(reference: Reference, seed: int, brain: str) -> np.ndarray:
    """Return a brain's own area for each white vertex: that of the vertex a few mm away on the inflated surface."""
    label = np.zeros_like(reference.label)
    for side in ("L", "R"):
        here = np.flatnonzero(reference.hemisphere == side)
        places = reference.inflated_mm[here]
        wander = SmoothField.draw(
            stream(seed, brain, "borders", side), rms=BORDER_RMS_MM, wavelength_mm=BORDER_WAVELENGTH_MM, components=3
        )
        label[here] = reference.label[here][cKDTree(places).query(places + wander(places))[1]]
    # No cortex appears or vanishes: only the borders between areas move.
    return np.where((label > 0) & (reference.label > 0), label, reference.label)
