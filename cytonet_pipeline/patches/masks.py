"""Cortex masks as sampling needs them: which pixels are cortex, how much brain each covers, how full a square is.

Image files are read by `histology`. A section that comes without a mask gets a derived one: the reference's cortex,
seen in the section's plane. It is as good as the chain to the reference, and good enough to sample from. It says
nothing about the chain, so quality measures must not use it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from cytonet_pipeline.histology import LabelImage
from cytonet_pipeline.registration import BrainChain, ReferenceSpace

ToBrain = Callable[[np.ndarray], np.ndarray]

# Warps bend tissue over millimetres: their scale is measured on a lattice of this spacing.
_LATTICE_MM = 1.0
_STEP_MM = 0.05
# A fifth of the cortex' depth; a finer grid would only follow the reference's own voxels of 1 mm.
_DERIVED_GRID_MM = 0.5


@dataclass(frozen=True, eq=False)
class CortexMask:
    """The cortex in the field of view of a scan.

    Attributes
    ----------
    inside : (H, W) bool array
    pixel_mm : (float, float)
        Width and height of a mask pixel in scan mm.
    derived : bool
        Whether it comes from the reference and not from the section itself.
    """

    inside: np.ndarray
    pixel_mm: tuple[float, float]
    derived: bool = False

    @classmethod
    def from_labels(cls, labels: LabelImage) -> "CortexMask":
        """Return the mask of everything in a label image that is not 0."""
        return cls(labels.labels != 0, (float(labels.pixel_mm[0]), float(labels.pixel_mm[1])))

    def brain_area_mm2(self, to_brain: ToBrain, *, warped: bool) -> np.ndarray:
        """Return the area in brain space of each pixel inside, in row-major order.

        Parameters
        ----------
        to_brain : callable
            From (N, 2) scan mm to (N, 3) brain mm.
        warped : bool
            Whether the scale of `to_brain` differs within the section.

        Returns
        -------
        (N,) array
            mm²; 0 where the section has no position in the brain.
        """
        rows, columns = np.nonzero(self.inside)
        width_mm, height_mm = self.pixel_mm
        height_px, width_px = self.inside.shape
        if not warped:
            middle_mm = np.array([[width_px * width_mm / 2, height_px * height_mm / 2]])
            return np.full(len(rows), area_scale(to_brain, middle_mm)[0] * width_mm * height_mm)
        x_mm = np.linspace(0, width_px * width_mm, 2 + int(width_px * width_mm / _LATTICE_MM))
        y_mm = np.linspace(0, height_px * height_mm, 2 + int(height_px * height_mm / _LATTICE_MM))
        lattice_mm = np.stack(np.meshgrid(x_mm, y_mm), axis=-1).reshape(-1, 2)
        scale = area_scale(to_brain, lattice_mm).reshape(len(y_mm), len(x_mm))
        at = np.stack([(rows + 0.5) / height_px * (len(y_mm) - 1), (columns + 0.5) / width_px * (len(x_mm) - 1)])
        return np.nan_to_num(map_coordinates(scale, at, order=1, mode="nearest")) * width_mm * height_mm

    def share_of_squares(self, x_mm: np.ndarray, y_mm: np.ndarray, edge_mm: float) -> np.ndarray:
        """Return the share of squares around points that is inside the mask; everything beyond the scan is outside.

        Exact: the integral image of a mask is bilinear between the corners of its pixels (Crow 1984, "Summed-area
        tables for texture mapping").

        Parameters
        ----------
        x_mm, y_mm : (N,) arrays
            Centres in scan mm.

        Returns
        -------
        (N,) float32 array
        """
        sums = np.zeros((self.inside.shape[0] + 1, self.inside.shape[1] + 1))
        np.cumsum(np.cumsum(self.inside, axis=0, dtype=np.int64), axis=1, out=sums[1:, 1:])
        right, left = ((x_mm + side * edge_mm / 2) / self.pixel_mm[0] for side in (1, -1))
        below, above = ((y_mm + side * edge_mm / 2) / self.pixel_mm[1] for side in (1, -1))

        def up_to(row: np.ndarray, column: np.ndarray) -> np.ndarray:
            return map_coordinates(sums, [row, column], order=1, mode="nearest")

        filled_px = up_to(below, right) - up_to(above, right) - up_to(below, left) + up_to(above, left)
        share = filled_px * self.pixel_mm[0] * self.pixel_mm[1] / edge_mm**2
        return np.clip(share, 0, 1).astype(np.float32)


def area_scale(to_brain: ToBrain, xy_mm: np.ndarray) -> np.ndarray:
    """Return how many mm² of brain correspond to one mm² of scan, at (N, 2) points of the scan plane."""
    right, left, below, above = (
        to_brain(xy_mm + np.array(step)) for step in ((_STEP_MM, 0), (-_STEP_MM, 0), (0, _STEP_MM), (0, -_STEP_MM))
    )
    return np.linalg.norm(np.cross(right - left, below - above), axis=1) / (2 * _STEP_MM) ** 2


def derive_mask(
    chain: BrainChain, sample: str, reference: ReferenceSpace, width_mm: float, height_mm: float
) -> CortexMask:
    """Derive a mask from the reference's cortex, on a grid over a section's field of view.

    Parameters
    ----------
    width_mm, height_mm : float
        Field of view in scan mm.

    Returns
    -------
    CortexMask
        With pixels of about 0.5 mm, flagged as derived.
    """
    columns, rows = max(1, round(width_mm / _DERIVED_GRID_MM)), max(1, round(height_mm / _DERIVED_GRID_MM))
    x_mm = (np.arange(columns) + 0.5) * width_mm / columns
    y_mm = (np.arange(rows) + 0.5) * height_mm / rows
    grid_mm = np.stack(np.meshgrid(x_mm, y_mm), axis=-1).reshape(-1, 2)
    points_mm = chain.brain_to_reference(chain.scan_to_brain(sample, grid_mm))
    inside = is_cortex(reference, points_mm).reshape(rows, columns)
    return CortexMask(inside, (width_mm / columns, height_mm / rows), derived=True)


def is_cortex(reference: ReferenceSpace, points_mm: np.ndarray) -> np.ndarray:
    """Tell which points of the reference are cortex.

    Cortex lies in the brain mask between the pial and the white surface, and is not labelled subcortical in the atlas:
    near the midline the surfaces run through nuclei and ventricles.

    Parameters
    ----------
    points_mm : (N, 3) array
        NaN counts as outside.

    Returns
    -------
    (N,) bool array
    """
    inside = np.isfinite(points_mm).all(axis=1)
    inside[inside] = reference.inside_brain(points_mm[inside])
    depth = reference.depth_at(points_mm[inside])
    inside[inside] = (depth > 0) & (depth < 1)
    labels = reference.atlas_labels
    subcortical = labels.loc[labels["kind"] == "subcortical", "index"].to_numpy()
    inside[inside] = ~np.isin(reference.atlas_at(points_mm[inside]), subcortical)
    return inside
