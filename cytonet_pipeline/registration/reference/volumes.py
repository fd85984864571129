"""Volumes of the reference space, and looking them up at points in mm.

Volumes are related by their affines, never by index. `space` knows what they mean.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from cytonet_pipeline.errors import ReferenceSpaceError
from cytonet_pipeline.registration.nifti import UNREADABLE, disagreement_of, foreign_unit, read_header


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3-D image and the affine from its indices to RAS mm; `note` is what a user should know of its header."""

    data: np.ndarray
    affine: np.ndarray
    note: str = ""

    @cached_property
    def _mm_to_index(self) -> np.ndarray:
        return np.linalg.inv(self.affine)

    def at(self, points_mm: np.ndarray) -> np.ndarray:
        """Look up the value of the nearest voxel, (N,); 0 outside the volume and for NaN."""
        points = np.asarray(points_mm, dtype=np.float64)
        position = points @ self._mm_to_index[:3, :3].T + self._mm_to_index[:3, 3]
        # Half-way between two voxels the upper one counts, on both sides of zero; NaN compares false.
        inside = ((position >= -0.5) & (position < np.array(self.data.shape) - 0.5)).all(axis=1)
        index = np.floor(position[inside] + 0.5).astype(np.int64)
        values = np.zeros(len(points), dtype=self.data.dtype)
        values[inside] = self.data[index[:, 0], index[:, 1], index[:, 2]]
        return values

    def bounds_mm(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the lowest and highest corner of the volume, (3,) each, in mm."""
        corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in self.data.shape])).reshape(3, -1).T
        places = corners @ self.affine[:3, :3].T + self.affine[:3, 3]
        return places.min(axis=0), places.max(axis=0)


def read_volume(path: Path) -> Volume:
    """Read a 3-D NIfTI volume; its data keep their stored type unless they are scaled.

    Raises
    ------
    ReferenceSpaceError
        The file is damaged, not 3-D, not in mm, or its affine is singular.
    """
    try:
        header = read_header(path)
        image: Any = nibabel.load(path)
        data = np.asanyarray(image.dataobj)
    except UNREADABLE as error:
        raise ReferenceSpaceError(f"{path}: not a readable NIfTI volume ({error}).", to_fix="copy it again") from error
    if data.ndim != 3:
        raise ReferenceSpaceError(f"{path}: {data.ndim} dimensions, expected 3.", to_fix="give one volume")
    if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine[:3, :3])) < 1e-9:
        raise ReferenceSpaceError(f"{path}: its affine is singular.", to_fix="repair the header (sform, qform)")
    if unit := foreign_unit(header):
        raise ReferenceSpaceError(f"{path}: its grid is in {unit}.", to_fix="write it in mm, with xyzt_units 2")
    note = disagreement_of(header)
    return Volume(data, image.affine, f"{path.name}: {note}." if note else "")


def read_labels(path: Path) -> Volume:
    """Read a label volume as int32.

    Raises
    ------
    ReferenceSpaceError
        The file is damaged, or holds values that are not whole numbers.
    """
    volume = read_volume(path)
    labels = volume.data.astype(np.int32)
    if not np.issubdtype(volume.data.dtype, np.integer) and not np.array_equal(labels, volume.data):
        raise ReferenceSpaceError(
            f"{path}: holds values that are not whole numbers; it was interpolated.",
            to_fix="resample labels by nearest neighbour only",
        )
    return Volume(labels, volume.affine, volume.note)
