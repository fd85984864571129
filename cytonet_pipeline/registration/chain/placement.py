"""The placement of one section in its brain: from the scan plane to brain mm, and back.

Scan plane: mm from the outer corner of the top-left pixel, x right, y down. Brain: the reconstruction, RAS mm.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cytonet_pipeline.dataset.series import principal_axis
from cytonet_pipeline.errors import TransformError
from cytonet_pipeline.registration.reference.meshes import unit
from cytonet_pipeline.registration.transforms.plane import Origin
from cytonet_pipeline.registration.transforms.point_transform import PointTransform
from cytonet_pipeline.store import digest_of

# A plane within a few degrees of the axis meets it far outside the brain, if at all.
_SMALLEST_COSINE = 0.1


@dataclass(frozen=True, eq=False)
class SectionPlacement:
    """A section's matrix and, where there is one, its in-plane warp.

    Parameters
    ----------
    matrix : (3, 4) array
        Maps (x, y, 0, 1) mm of the straightened plane to brain mm; the third column is ignored.
    warp : PointTransform, optional
        2-D, applied before the matrix, from corner origin to corner origin.
    warp_origin : {"corner", "centre"}
        Origin that the warp's file used; `warp` already allows for it.
    """

    sample: str
    matrix: np.ndarray
    warp: PointTransform | None = None
    warp_origin: Origin = "corner"

    def __post_init__(self) -> None:
        if self.matrix.shape != (3, 4) or not np.isfinite(self.matrix[:, [0, 1, 3]]).all():
            raise TransformError(f"sample-{self.sample}: its matrix is not 3 × 4 numbers.", to_fix="repair the table")
        lengths = np.linalg.norm(self.matrix[:, :2], axis=0)
        if np.linalg.norm(self._cross) <= 1e-6 * max(lengths.prod(), 1e-12):
            raise TransformError(
                f"sample-{self.sample}: its matrix is singular, columns 1 and 2 are parallel or zero.",
                to_fix="repair its row in the table of matrices",
            )

    def to_brain(self, xy_mm: np.ndarray) -> np.ndarray:
        """Map points of the scan plane (N, 2) to brain mm (N, 3)."""
        plane = np.asarray(xy_mm, dtype=np.float64)
        if self.warp is not None:
            plane = self.warp(plane)
        return plane @ self.matrix[:, :2].T + self.matrix[:, 3]

    def to_scan(self, points_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map points of the brain into the scan plane.

        Returns
        -------
        xy_mm : (N, 2) array
            Foot of the perpendicular on the section's plane, mapped by the warp's inverse; NaN where there is none.
        off_plane_mm : (N,) array
            Signed distance from the plane, along `normal`.
        """
        offset = np.asarray(points_mm, dtype=np.float64) - self.matrix[:, 3]
        plane = offset @ np.linalg.pinv(self.matrix[:, :2]).T
        off_plane = offset @ self.normal
        return (plane if self.warp is None else self.warp.inverse()(plane)), off_plane

    @property
    def normal(self) -> np.ndarray:
        """Unit normal of the section in brain space: cross(column 1, column 2)."""
        return unit(self._cross)

    def position_mm(self, axis: np.ndarray, through_mm: np.ndarray | None = None) -> float:
        """Return where the section's plane meets the line along `axis` (3,) through a point (3,), mm along the axis.

        Without a point, and for a section that does not cut across the axis, the position of its origin.
        """
        across = float(self.normal @ axis)
        if through_mm is None or abs(across) < _SMALLEST_COSINE:
            return float(self.matrix[:, 3] @ axis)
        return float(through_mm @ axis + self.normal @ (self.matrix[:, 3] - through_mm) / across)

    @property
    def in_plane_scale(self) -> float:
        """Brain mm per scan mm, the geometric mean over the plane: more than 1 where shrinkage was undone."""
        return float(np.sqrt(np.linalg.norm(self._cross)))

    @property
    def _cross(self) -> np.ndarray:
        return np.cross(self.matrix[:, 0], self.matrix[:, 1])

    @property
    def digest(self) -> str:
        """Digest of what the placement does."""
        return digest_of(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Describe the matrix (without the ignored column) and the warp."""
        return {
            "matrix": self.matrix[:, [0, 1, 3]].tolist(),
            "warp": self.warp.to_json() if self.warp else None,
            "warp_origin": self.warp_origin,
        }


def series_axis(placements: list[SectionPlacement]) -> np.ndarray:
    """Return the direction in which the sections follow one another, a unit vector in brain space.

    It is the mean of their normals regardless of sign, pointing to the right, anterior or superior side, whichever is
    closest: section numbers do not determine a direction.
    """
    axis = principal_axis(np.stack([placement.normal for placement in placements]))
    return axis * np.sign(axis[np.abs(axis).argmax()])
