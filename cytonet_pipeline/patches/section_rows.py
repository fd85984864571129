"""The rows of the patch index from one section, and the record of what they follow from.

`sampling` draws the positions; here each patch gets its id, its position in the brain and the columns from the
section's own files. `reference_columns` adds the others, for many sections at once.
"""

import logging
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from cytonet_pipeline.errors import DataFault
from cytonet_pipeline.patches.ids import morton_of, patch_ids
from cytonet_pipeline.patches.sampling import (
    MIDLINE_DEPTH,
    Accept,
    draw_positions,
    number_of_patches,
    section_generator,
)
from cytonet_pipeline.patches.section_plan import PlannedSection
from cytonet_pipeline.registration import BrainChain, ReferenceSpace
from cytonet_pipeline.settings import DatasetBlock
from cytonet_pipeline.store import digest_of

log = logging.getLogger(__name__)

BRAIN_MM = ["brain_x_mm", "brain_y_mm", "brain_z_mm"]


@dataclass(frozen=True, eq=False)
class Ground:
    """The inputs that all sections of a brain are indexed with."""

    brain: str
    chain: BrainChain
    reference: ReferenceSpace
    block: DatasetBlock


def record_of(section: PlannedSection, split: str, ground: Ground) -> dict[str, Any]:
    """Return the record of a section for the index's metadata, as far as it is known before anything is drawn.

    `inputs` is a digest of everything that its rows follow from, except `split`: rows of equal `inputs` are equal.
    """
    block, chain, reference = ground.block, ground.chain, ground.reference
    transform_digest = digest_of([chain.section_digest(section.sample), chain.to_reference.digest, reference.digest])
    drawn_by = {
        "brain": ground.brain,
        "sample": section.sample,
        "number": section.number,
        "field": [section.pixel_um, section.width_mm, section.height_mm],
        "mask": section.mask_digest if section.has_mask else None,
        "annotation": section.annotation_digest if section.has_annotation else None,
        "represents_mm": section.represents_mm,
        "transform": transform_digest,
        "block": [block.patch_um, block.density_per_mm3, block.sampling, block.seed],
    }
    return {
        "position_mm": section.position_mm,
        "reach_mm": section.reach_mm,
        "represents_mm": section.represents_mm,
        "transform_digest": transform_digest,
        "mask": "given" if section.has_mask else "derived",
        "split": split,
        "inputs": digest_of(drawn_by),
    }


def section_rows(section: PlannedSection, ground: Ground) -> tuple[pd.DataFrame, str]:
    """Draw the patches of one section, along a Morton curve, and return what prevented it, otherwise ''."""
    try:
        return _draw(section, ground), ""
    except DataFault as fault:
        log.warning("%s: no patches from section %s: %s", ground.brain, section.sample, fault)
        return pd.DataFrame(), str(fault)


def _draw(section: PlannedSection, ground: Ground) -> pd.DataFrame:
    brain, sample, block, pixel_mm = ground.brain, section.sample, ground.block, section.pixel_um / 1000
    mask = section.mask(ground.chain, ground.reference)
    area_mm2 = mask.brain_area_mm2(partial(ground.chain.scan_to_brain, sample), warped=section.warped)
    n = number_of_patches(
        block.density_per_mm3 * float(area_mm2.sum()) * section.represents_mm,
        section_generator(block.seed, brain, sample, "count"),
    )
    accept = _at_mid_depth(sample, ground) if block.sampling == "midline" else None
    positions = section_generator(block.seed, brain, sample, "positions")
    xy_px = draw_positions(mask, area_mm2, n, section.pixel_um, positions, accept)
    xy_px = xy_px[np.argsort(morton_of(xy_px[:, 0], xy_px[:, 1]), kind="stable")]
    xy_mm = xy_px * pixel_mm
    edge_mm = round(block.patch_um / section.pixel_um) * pixel_mm
    brain_mm = ground.chain.scan_to_brain(sample, xy_mm)
    return pd.DataFrame(
        {
            "patch_id": patch_ids(brain, sample, xy_px[:, 0], xy_px[:, 1]),
            "brain": brain,
            "sample": sample,
            "section": np.int32(section.number),
            "x_px": xy_px[:, 0],
            "y_px": xy_px[:, 1],
            **dict(zip(BRAIN_MM, brain_mm.T, strict=True)),
            "annotated_area": section.annotation_at(xy_mm),
            "cortex_fraction": mask.share_of_squares(xy_mm[:, 0], xy_mm[:, 1], edge_mm),
        }
    )


def _at_mid_depth(sample: str, ground: Ground) -> Accept:
    def accept(xy_mm: np.ndarray) -> np.ndarray:
        points_mm = ground.chain.brain_to_reference(ground.chain.scan_to_brain(sample, xy_mm))
        near = np.isfinite(points_mm).all(axis=1)
        near[near] = np.abs(ground.reference.depth_at(points_mm[near]) - 0.5) <= MIDLINE_DEPTH
        return near

    return accept
