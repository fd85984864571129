"""Slices through volumes in world millimetres, in neurological convention: the subject's left is on the left.

A slice is resampled on a grid of RAS millimetres through the volume's affine, so that volumes with different grids
overlay each other, as does everything that is given in millimetres.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from scipy.ndimage import map_coordinates

from cytonet_pipeline.reporting.style import bare

Plane = Literal["sagittal", "coronal", "axial"]
# World axes of a plane: the one held fixed, the one that points right in the picture, the one that points up.
AXES: dict[Plane, tuple[int, int, int]] = {"sagittal": (0, 1, 2), "coronal": (1, 0, 2), "axial": (2, 0, 1)}
_ENDS = ("LR", "PA", "IS")


@dataclass(frozen=True)
class Frame:
    """Field of view of a slice: a box in RAS mm."""

    low_mm: tuple[float, float, float]
    high_mm: tuple[float, float, float]

    @classmethod
    def around(cls, mask: np.ndarray, affine: np.ndarray, margin_mm: float = 6.0) -> "Frame":
        """Return the box around all voxels above zero in a volume."""
        index = np.argwhere(mask[::2, ::2, ::2] > 0) * 2
        points = index @ affine[:3, :3].T + affine[:3, 3]
        low, high = points.min(axis=0) - margin_mm, points.max(axis=0) + margin_mm
        return cls((float(low[0]), float(low[1]), float(low[2])), (float(high[0]), float(high[1]), float(high[2])))

    def extent(self, plane: Plane) -> tuple[float, float, float, float]:
        """Return left, right, bottom and top of the picture in mm, as `imshow` takes them."""
        _, right, up = AXES[plane]
        return self.low_mm[right], self.high_mm[right], self.low_mm[up], self.high_mm[up]


def cut(
    volume: np.ndarray,
    affine: np.ndarray,
    plane: Plane,
    at_mm: float,
    frame: Frame,
    *,
    step_mm: float = 1.0,
    labels: bool = False,
) -> np.ndarray:
    """Resample one plane of a volume.

    Parameters
    ----------
    volume : (X, Y, Z) array
    affine : (4, 4) array
        Voxel to RAS mm.
    at_mm : float
        Position of the plane on the axis that it is perpendicular to.
    labels : bool
        Take the nearest voxel instead of interpolating linearly.

    Returns
    -------
    (H, W) array
        First row at the bottom of the picture (`origin="lower"`); 0 outside the volume.
    """
    held, right, up = AXES[plane]
    across = np.arange(frame.low_mm[right] + step_mm / 2, frame.high_mm[right], step_mm)
    upward = np.arange(frame.low_mm[up] + step_mm / 2, frame.high_mm[up], step_mm)
    points = np.empty((len(upward), len(across), 3))
    points[..., held], points[..., right], points[..., up] = at_mm, across[None, :], upward[:, None]
    inverse = np.linalg.inv(affine)
    voxels = points @ inverse[:3, :3].T + inverse[:3, 3]
    return map_coordinates(volume, np.moveaxis(voxels, -1, 0), order=0 if labels else 1, cval=0, prefilter=False)


def show(axes: Axes, image: np.ndarray, plane: Plane, frame: Frame, **options: Any) -> None:
    """Draw a slice in mm; the image may have a colour axis."""
    axes.imshow(image, origin="lower", extent=frame.extent(plane), interpolation="nearest", aspect="equal", **options)


def name_ends(axes: Axes, plane: Plane, color: str = "white") -> None:
    """Write L/R, P/A, I/S at the edges of a slice, and remove its ticks."""
    bare(axes)
    _, right, up = AXES[plane]
    for text, x, y, ha, va in (
        (_ENDS[right][0], 0.02, 0.5, "left", "center"),
        (_ENDS[right][1], 0.98, 0.5, "right", "center"),
        (_ENDS[up][0], 0.5, 0.02, "center", "bottom"),
        (_ENDS[up][1], 0.5, 0.98, "center", "top"),
    ):
        axes.text(x, y, text, transform=axes.transAxes, ha=ha, va=va, color=color, fontsize=8, fontweight="bold")


def scale_bar(axes: Axes, frame: Frame, plane: Plane, length_mm: float = 20.0, color: str = "white") -> None:
    """Draw a scale bar in the lower right corner."""
    _, right, bottom, top = frame.extent(plane)
    x, y = right - 4 - length_mm, bottom + 0.05 * (top - bottom)
    axes.plot([x, x + length_mm], [y, y], color=color, linewidth=2, solid_capstyle="butt")
    axes.text(x + length_mm, y + 2, f"{length_mm:g} mm", color=color, ha="right", va="bottom", fontsize=7)
