"""Where the areas of an atlas meet, and how far a point is from there.

A border is a face between two voxels of the atlas that belong to two different areas (`kind` is `area`) of the same
hemisphere. What lies next to no other area is none: the outer rim of the cortex, to pial surface and white matter,
the edge to cortex that is not mapped yet (`gap`) and to subcortical structures, and the midline between hemispheres.
Areas on opposite banks of a sulcus share a border where their voxels touch.

Distances are straight, in mm of the reference, to the middle of the nearest such face. They are exact to about half a
voxel.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from cytonet_pipeline.registration.reference.cortex import HEMISPHERES


def border_points_mm(labels: np.ndarray, affine: np.ndarray, atlas_labels: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the middle of each face between two areas, by hemisphere.

    Parameters
    ----------
    labels : (X, Y, Z) int array
        The atlas.
    affine : (4, 4) array
        From its indices to mm.
    atlas_labels : DataFrame
        `index`, `hemisphere`, `area`, `kind` of each label.

    Returns
    -------
    dict
        (P, 3) positions in RAS mm for `L` and `R`; (0, 3) where no two areas meet.
    """
    areas = atlas_labels[atlas_labels["kind"] == "area"]
    found = {}
    for hemisphere in HEMISPHERES:
        of_hemisphere = areas[areas["hemisphere"] == hemisphere]
        area_of_label = np.zeros(max(int(labels.max(initial=0)), int(atlas_labels["index"].max())) + 1, np.int32)
        area_of_label[of_hemisphere["index"]] = of_hemisphere["area"]
        volume = area_of_label[labels]
        faces = np.concatenate([_faces_along(volume, axis) for axis in range(3)])
        found[hemisphere] = faces @ affine[:3, :3].T + affine[:3, 3]
    return found


def distance_to_borders_mm(
    points_mm: np.ndarray, hemispheres: np.ndarray, borders_mm: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Return the distance from points to the nearest border of their hemisphere.

    Parameters
    ----------
    points_mm : (N, 3) array
    hemispheres : (N,) array of str
        `L` or `R`.
    borders_mm : mapping
        As `border_points_mm` returns them.

    Returns
    -------
    (N,) float64 array
        In mm; infinite in a hemisphere without borders, NaN for points that are not finite.
    """
    points = np.asarray(points_mm, dtype=np.float64)
    finite = np.isfinite(points).all(axis=1)
    distances = np.full(len(points), np.nan)
    for hemisphere, border in borders_mm.items():
        here = finite & (np.asarray(hemispheres) == hemisphere)
        distances[here] = cKDTree(border).query(points[here])[0] if len(border) else np.inf
    return distances


def _faces_along(areas: np.ndarray, axis: int) -> np.ndarray:
    """Return the middle of each face between two areas along an axis, (P, 3) in indices; 0 is no area."""
    length = areas.shape[axis]
    first, second = (np.take(areas, range(start, start + length - 1), axis=axis) for start in (0, 1))
    middle = np.argwhere((first != second) & (first > 0) & (second > 0)).astype(np.float64)
    middle[:, axis] += 0.5
    return middle
