"""A regular grid of patches over the cortex of every usable section of a brain, on which areas are predicted."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cytonet_pipeline.dataset import Brain
from cytonet_pipeline.patches import patch_ids
from cytonet_pipeline.patches.masks import CortexMask, area_scale
from cytonet_pipeline.patches.section_plan import PlannedSection, plan_sections
from cytonet_pipeline.registration import BrainChain, ReferenceSpace
from cytonet_pipeline.store import REFERENCE_MM

_BRAIN_MM = ["brain_x_mm", "brain_y_mm", "brain_z_mm"]


def map_grid(
    brain: Brain, sections: pd.DataFrame, chain: BrainChain, reference: ReferenceSpace, spacing_mm: float
) -> pd.DataFrame:
    """Lay a grid over the cortex of every usable section.

    Parameters
    ----------
    sections : DataFrame
        The brain's `section_scans`.
    spacing_mm : float
        Distance between neighbouring points of a section, in brain mm.

    Returns
    -------
    DataFrame
        Columns of the patch index that features need, `hemisphere`, `annotated_area`, and `reach_mm`: half the distance
        to the neighbouring sections. Points without a place in the reference are left out.
    """
    plan = plan_sections(brain, sections, chain)
    frames = [_section_rows(brain.name, section, chain, reference, spacing_mm) for section in plan]
    rows = pd.concat(frames, ignore_index=True) if frames else _no_rows()
    placed = np.isfinite(rows[list(REFERENCE_MM)].to_numpy(np.float64)).all(axis=1)
    rows = rows[placed].reset_index(drop=True)
    return rows.assign(hemisphere=reference.hemisphere_at(rows[list(REFERENCE_MM)].to_numpy(np.float64)))


def section_grid_px(mask: CortexMask, pixel_um: float, spacing_mm: tuple[float, float]) -> np.ndarray:
    """Return the grid points inside a mask.

    Parameters
    ----------
    pixel_um : float
        Full-resolution pixel size of the scan.
    spacing_mm : (float, float)
        Horizontal and vertical distance of points, in scan mm.

    Returns
    -------
    (N, 2) int32 array
        x and y in full-resolution pixels, row by row.
    """
    height_px, width_px = mask.inside.shape
    x_mm = np.arange(spacing_mm[0] / 2, width_px * mask.pixel_mm[0], spacing_mm[0])
    y_mm = np.arange(spacing_mm[1] / 2, height_px * mask.pixel_mm[1], spacing_mm[1])
    columns = (x_mm / mask.pixel_mm[0]).astype(int).clip(0, width_px - 1)
    rows = (y_mm / mask.pixel_mm[1]).astype(int).clip(0, height_px - 1)
    at_row, at_column = np.nonzero(mask.inside[np.ix_(rows, columns)])
    return np.rint(np.stack([x_mm[at_column], y_mm[at_row]], axis=1) * 1000 / pixel_um).astype(np.int32)


def _section_rows(
    brain: str, section: PlannedSection, chain: BrainChain, reference: ReferenceSpace, spacing_mm: float
) -> pd.DataFrame:
    def to_brain(xy_mm: np.ndarray) -> np.ndarray:
        return chain.scan_to_brain(section.sample, xy_mm)

    middle_mm = np.array([[section.width_mm / 2, section.height_mm / 2]])
    # Scans show shrunken tissue: a millimetre of a scan is more than a millimetre of the brain.
    in_scan_mm = spacing_mm / float(np.sqrt(area_scale(to_brain, middle_mm)[0]))
    xy_px = section_grid_px(section.mask(chain, reference), section.pixel_um, (in_scan_mm, in_scan_mm))
    xy_mm = xy_px * section.pixel_um / 1000
    brain_mm = to_brain(xy_mm)
    return pd.DataFrame(
        {
            "patch_id": patch_ids(brain, section.sample, xy_px[:, 0], xy_px[:, 1]),
            "brain": brain,
            "sample": section.sample,
            "section": np.int32(section.number),
            "x_px": xy_px[:, 0],
            "y_px": xy_px[:, 1],
            **dict(zip(_BRAIN_MM, brain_mm.T, strict=True)),
            **dict(zip(REFERENCE_MM, chain.brain_to_reference(brain_mm).T, strict=True)),
            "annotated_area": section.annotation_at(xy_mm),
            "reach_mm": section.represents_mm / 2,
        }
    )


def _no_rows() -> pd.DataFrame:
    columns: Sequence[str] = ["patch_id", "brain", "sample", "section", "x_px", "y_px", *_BRAIN_MM, *REFERENCE_MM]
    return pd.DataFrame({column: pd.Series(dtype=float) for column in [*columns, "annotated_area", "reach_mm"]})
