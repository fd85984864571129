"""The patch index of a brain: one row a patch, with its place in the scan, the brain and the reference.

Reading and writing it is `index_files.py`; where patches lie is `sampling.py`; what sections are for is `splits.py`.
"""

import logging
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from cytonet_pipeline.dataset import Brain
from cytonet_pipeline.errors import DataFault
from cytonet_pipeline.patches.curve import morton_of
from cytonet_pipeline.patches.ids import order_of, patch_ids
from cytonet_pipeline.patches.obliquity import obliquity_deg, pulled_back_normals
from cytonet_pipeline.patches.sampling import (
    MIDLINE_DEPTH,
    Accept,
    draw_positions,
    number_of_patches,
    section_generator,
)
from cytonet_pipeline.patches.section_plan import PlannedSection, plan_sections
from cytonet_pipeline.patches.splits import assign_splits
from cytonet_pipeline.progress import track
from cytonet_pipeline.registration import BrainChain, ReferenceSpace
from cytonet_pipeline.settings import DatasetBlock
from cytonet_pipeline.store import digest_of, table

log = logging.getLogger(__name__)

_BRAIN_MM = ["brain_x_mm", "brain_y_mm", "brain_z_mm"]
_REF_MM = ["ref_x_mm", "ref_y_mm", "ref_z_mm"]


def build_index(
    brain: Brain, sections: pd.DataFrame, chain: BrainChain, reference: ReferenceSpace, block: DatasetBlock
) -> pd.DataFrame:
    """Sample the cortex of a brain and say of each patch where it lies.

    Parameters
    ----------
    sections : DataFrame
        The brain's `section_scans`; sections that are `ok` or `flagged` take part.
    chain : BrainChain
        From the sections to the reference.

    Returns
    -------
    DataFrame
        Table `patch_index`, sorted by section and along a Morton curve within it. `attrs` holds what `write_index`
        puts into the file's metadata: `sections` (by sample: `position_mm`, `represents_mm`, `drawn`, `mask`,
        `transform_digest`, `problem`) and `left_out`, the number of patches that have no place in the reference.
    """
    plan = plan_sections(brain, sections, chain)
    drawn, records = [], {}
    for section in track(plan, f"patches of {brain.name}"):
        frame, records[section.sample] = _draw(brain.name, section, chain, reference, block)
        drawn.append(frame)
    index = _sorted(pd.concat(drawn, ignore_index=True)) if drawn else pd.DataFrame()
    index, left_out = _placed(index, chain, reference) if len(index) else (table("patch_index").empty(), 0)
    if len(index):
        positions_mm = {section.sample: section.position_mm for section in plan}
        index["split"] = index["sample"].map(assign_splits(brain.name, positions_mm, block, block.held_out))
        index["order"] = order_of(index["patch_id"].to_numpy(), block.seed)
        index = table("patch_index").validate(index)[[c.name for c in table("patch_index").columns]]
    if left_out:
        log.warning("%s: %d patches have no place in the reference and are left out", brain.name, left_out)
    index.attrs = {"sections": records, "left_out": left_out}
    return index


def _draw(
    brain: str, section: PlannedSection, chain: BrainChain, reference: ReferenceSpace, block: DatasetBlock
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Patches of one section, with what only its own files know; and its record."""
    record: dict[str, Any] = {
        "position_mm": section.position_mm,
        "represents_mm": section.represents_mm,
        "transform_digest": digest_of(
            [chain.section_digest(section.sample), chain.to_reference.digest, reference.digest]
        ),
        "mask": "given" if section.has_mask else "derived",
    }
    try:
        frame = _drawn_frame(brain, section, chain, reference, block)
    except DataFault as fault:
        log.warning("%s: no patches from section %s: %s", brain, section.sample, fault)
        return pd.DataFrame(), record | {"drawn": 0, "problem": str(fault)}
    return frame, record | {"drawn": len(frame), "problem": ""}


def _drawn_frame(
    brain: str, section: PlannedSection, chain: BrainChain, reference: ReferenceSpace, block: DatasetBlock
) -> pd.DataFrame:
    sample, pixel_mm = section.sample, section.pixel_um / 1000
    mask = section.mask(chain, reference)
    area_mm2 = mask.brain_area_mm2(partial(chain.scan_to_brain, sample), warped=section.warped)
    n = number_of_patches(
        block.density_per_mm3 * float(area_mm2.sum()) * section.represents_mm,
        section_generator(block.seed, brain, sample, "count"),
    )
    accept = _at_mid_depth(chain, sample, reference) if block.sampling == "midline" else None
    positions = section_generator(block.seed, brain, sample, "positions")
    xy_px = draw_positions(mask, area_mm2, n, section.pixel_um, positions, accept)
    xy_mm = xy_px * pixel_mm
    edge_mm = round(block.patch_um / section.pixel_um) * pixel_mm
    brain_mm = chain.scan_to_brain(sample, xy_mm)
    return pd.DataFrame(
        {
            "patch_id": patch_ids(brain, sample, xy_px[:, 0], xy_px[:, 1]),
            "brain": brain,
            "sample": sample,
            "section": section.number,
            "x_px": xy_px[:, 0],
            "y_px": xy_px[:, 1],
            **dict(zip(_BRAIN_MM, brain_mm.T, strict=True)),
            "annotated_area": section.annotation_at(xy_mm),
            "cortex_fraction": mask.share_of_squares(xy_mm[:, 0], xy_mm[:, 1], edge_mm),
        }
    )


def _at_mid_depth(chain: BrainChain, sample: str, reference: ReferenceSpace) -> Accept:
    def accept(xy_mm: np.ndarray) -> np.ndarray:
        points_mm = chain.brain_to_reference(chain.scan_to_brain(sample, xy_mm))
        near = np.isfinite(points_mm).all(axis=1)
        near[near] = np.abs(reference.depth_at(points_mm[near]) - 0.5) <= MIDLINE_DEPTH
        return near

    return accept


def _sorted(frame: pd.DataFrame) -> pd.DataFrame:
    along = pd.Series(morton_of(frame["x_px"].to_numpy(), frame["y_px"].to_numpy()), index=frame.index)
    by = frame[["section", "sample"]].assign(along=along)
    return frame.loc[by.sort_values(["section", "sample", "along"], kind="stable").index].reset_index(drop=True)


def _placed(frame: pd.DataFrame, chain: BrainChain, reference: ReferenceSpace) -> tuple[pd.DataFrame, int]:
    """Add what the reference says; drop patches that have no place in it and count them."""
    mapped_mm = chain.brain_to_reference(frame[_BRAIN_MM].to_numpy(np.float64))
    known = np.isfinite(mapped_mm).all(axis=1)
    frame, mapped_mm = frame[known].reset_index(drop=True), mapped_mm[known]
    brain_mm = frame[_BRAIN_MM].to_numpy(np.float64)
    normals = pulled_back_normals(chain.brain_to_reference, brain_mm, mapped_mm, reference.normal_at(mapped_mm))
    cut = {sample: chain.section_normal(sample) for sample in frame["sample"].unique()}
    section_normals = np.stack(frame["sample"].map(cut).to_list()) if len(frame) else np.empty((0, 3))
    frame = frame.assign(
        **dict(zip(_REF_MM, mapped_mm.T, strict=True)),
        hemisphere=reference.hemisphere_at(mapped_mm),
        atlas_area=reference.atlas_at(mapped_mm),
        depth=reference.depth_at(mapped_mm),
        obliquity_deg=obliquity_deg(section_normals, normals),
    )
    return frame, int((~known).sum())
