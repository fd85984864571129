"""Columns of the patch index that the reference fills in: position, depth, areas, and how obliquely a patch is cut.

A tangential cut of the cortex shows one layer, not the sequence of layers.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from cytonet_pipeline.patches.section_rows import BRAIN_MM, Ground
from cytonet_pipeline.store import REFERENCE_MM

PointMap = Callable[[np.ndarray], np.ndarray]

# Half a reference voxel: displacement fields are smooth on that scale.
_STEP_MM = 0.5


def add_reference_columns(rows: pd.DataFrame, ground: Ground) -> pd.DataFrame:
    """Add the columns that the reference fills in; patches that have no position in it are dropped."""
    chain, reference = ground.chain, ground.reference
    mapped_mm = chain.brain_to_reference(rows[BRAIN_MM].to_numpy(np.float64))
    known = np.isfinite(mapped_mm).all(axis=1)
    if not known.all():
        rows, mapped_mm = rows[known].reset_index(drop=True), mapped_mm[known]
    # One search of the surfaces gives depth, normal and hemisphere.
    place = reference.locate(mapped_mm)
    brain_mm = rows[BRAIN_MM].to_numpy(np.float64)
    normals = pulled_back_normals(chain.brain_to_reference, brain_mm, mapped_mm, place.normal)
    return rows.assign(
        **dict(zip(REFERENCE_MM, mapped_mm.T, strict=True)),
        hemisphere=reference.hemisphere_at(mapped_mm, place),
        atlas_area=reference.atlas_at(mapped_mm),
        depth=place.depth,
        obliquity_deg=obliquity_deg(_section_normals(rows["sample"], ground), normals),
    )


def _section_normals(samples: pd.Series, ground: Ground) -> np.ndarray:
    """Return the normals of the sections that patches lie in, (N, 3)."""
    number, names = pd.factorize(samples)
    normals = [ground.chain.section_normal(str(name)) for name in names]
    return np.stack(normals)[number] if normals else np.empty((0, 3))


def pulled_back_normals(
    to_reference: PointMap, points_mm: np.ndarray, mapped_mm: np.ndarray, normals: np.ndarray
) -> np.ndarray:
    """Pull normals of reference surfaces back into the brain's own space.

    A normal is the gradient of a depth and is pulled back by the transposed Jacobian, which is computed by forward
    differences of 0.5 mm.

    Parameters
    ----------
    to_reference : callable
        From (N, 3) brain mm to (N, 3) reference mm.
    points_mm, mapped_mm : (N, 3) arrays
        Points in the brain, and their images under `to_reference`.
    normals : (N, 3) array
        Normals in the reference at `mapped_mm`.

    Returns
    -------
    (N, 3) array
        Unit vectors; NaN where a normal or the map beside the point is missing.
    """
    pulled = np.empty_like(normals, dtype=np.float64)
    for axis, step in enumerate(np.eye(3) * _STEP_MM):
        pulled[:, axis] = np.einsum("ij,ij->i", to_reference(points_mm + step) - mapped_mm, normals)
    with np.errstate(invalid="ignore"):
        return pulled / np.linalg.norm(pulled, axis=1, keepdims=True)


def obliquity_deg(section_normals: np.ndarray, surface_normals: np.ndarray) -> np.ndarray:
    """Compute the angle between section planes and surface normals.

    Parameters
    ----------
    section_normals, surface_normals : (N, 3) arrays
        Unit vectors in one space, of either sign.

    Returns
    -------
    (N,) float32 array
        0: the section contains the normal and shows all layers; 90: it is cut tangentially. Degrees.
    """
    sine = np.abs(np.einsum("ij,ij->i", section_normals, surface_normals))
    return np.degrees(np.arcsin(np.clip(sine, 0, 1))).astype(np.float32)
