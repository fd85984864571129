"""A cortex mask for sections that come without one: the reference's cortex, seen in the section's plane.

It is as good as the chain to the reference, and good enough to sample from. It says nothing about the chain, so quality
measures must not use it.
"""

import numpy as np

from cytonet_pipeline.patches.masks import CortexMask
from cytonet_pipeline.registration import BrainChain, ReferenceSpace

# A fifth of the cortex' depth; a finer grid would only follow the reference's own voxels of 1 mm.
GRID_MM = 0.5


def derive_mask(
    chain: BrainChain, sample: str, reference: ReferenceSpace, width_mm: float, height_mm: float
) -> CortexMask:
    """Mark what is cortex in the reference, on a grid over a section's field of view.

    Parameters
    ----------
    width_mm, height_mm : float
        Field of view in scan mm.

    Returns
    -------
    CortexMask
        Of about 0.5 mm a pixel, flagged as derived.
    """
    columns, rows = max(1, round(width_mm / GRID_MM)), max(1, round(height_mm / GRID_MM))
    x_mm = (np.arange(columns) + 0.5) * width_mm / columns
    y_mm = (np.arange(rows) + 0.5) * height_mm / rows
    grid_mm = np.stack(np.meshgrid(x_mm, y_mm), axis=-1).reshape(-1, 2)
    points_mm = chain.brain_to_reference(chain.scan_to_brain(sample, grid_mm))
    inside = is_cortex(reference, points_mm).reshape(rows, columns)
    return CortexMask(inside, (width_mm / columns, height_mm / rows), derived=True)


def is_cortex(reference: ReferenceSpace, points_mm: np.ndarray) -> np.ndarray:
    """Whether points of the reference are cortex.

    Cortex lies in the brain's mask between the pial and the white surface, and is nothing that the atlas calls
    subcortical: near the midline the surfaces run through nuclei and ventricles.

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
