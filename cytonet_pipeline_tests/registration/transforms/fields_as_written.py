"""Fields as other programs write them: one smooth map from points to points, in the form that is asked for."""

from pathlib import Path

import nibabel
import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

SHAPE = (21, 24, 19)


def grid() -> np.ndarray:
    """Return an oblique grid with voxels of 5 mm, RAS."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", (0.1, -0.2, 0.05)).as_matrix() * 5.0
    affine[:3, 3] = (-60, -70, -50)
    return affine


def places_mm() -> np.ndarray:
    """Return the place of each voxel, (*SHAPE, 3), RAS mm."""
    return np.moveaxis(np.indices(SHAPE), 0, -1) @ grid()[:3, :3].T + grid()[:3, 3]


def positions_mm() -> np.ndarray:
    """Return where each voxel is mapped to, (*SHAPE, 3), RAS mm: an affine and a displacement of some mm."""
    rng = np.random.default_rng(1)
    smooth = np.stack([gaussian_filter(rng.normal(size=SHAPE), 3) for _ in range(3)], axis=-1)
    linear = Rotation.from_euler("xyz", (0.2, 0.1, -0.1)).as_matrix() * [1.1, 0.9, 1.05]
    return (places_mm() + 2 * smooth / smooth.std()) @ linear.T + [8.0, -12.0, 5.0]


def write(
    path: Path,
    vectors: np.ndarray,
    *,
    intent: int = 1007,
    name: str = "",
    p1: float = 0.0,
    affine=None,
    version: int = 1,
) -> Path:
    """Write vectors (…, 3) as a 5-D image."""
    kind = nibabel.Nifti2Image if version == 2 else nibabel.Nifti1Image
    image = kind(vectors[..., None, :].astype(np.float32), grid() if affine is None else affine)
    image.header.set_intent(intent, name=name)
    image.header["intent_p1"] = p1
    image.to_filename(path)
    return path


def points_inside(n: int = 500) -> np.ndarray:
    """Return points (n, 3) well within the grid, RAS mm."""
    index = np.random.default_rng(0).uniform(1, np.array(SHAPE) - 2, (n, 3))
    return index @ grid()[:3, :3].T + grid()[:3, 3]


def interpolated(values: np.ndarray, points_mm: np.ndarray) -> np.ndarray:
    """Interpolate vectors (*SHAPE, 3) linearly at points (N, 3), in float64."""
    index = (points_mm - grid()[:3, 3]) @ np.linalg.inv(grid()[:3, :3]).T
    return np.stack([map_coordinates(values[..., c], index.T, order=1) for c in range(3)], axis=-1)
