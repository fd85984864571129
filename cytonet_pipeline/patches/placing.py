"""What the reference says of patches: where they lie in it, how deep in the cortex, how obliquely they are cut."""

import numpy as np
import pandas as pd

from cytonet_pipeline.patches.obliquity import obliquity_deg, pulled_back_normals
from cytonet_pipeline.patches.section_rows import BRAIN_MM, Ground
from cytonet_pipeline.store import REFERENCE_MM


def placed(rows: pd.DataFrame, ground: Ground) -> pd.DataFrame:
    """Add what the reference says of patches; those that have no place in it are dropped."""
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
    """Normals of the sections that patches lie in, (N, 3)."""
    number, names = pd.factorize(samples)
    normals = [ground.chain.section_normal(str(name)) for name in names]
    return np.stack(normals)[number] if normals else np.empty((0, 3))
