"""Points by which a brain's chain is judged.

Points of its own cortex should fall onto the cortex of the reference; points of its annotations should agree with the
atlas on left and right.
"""

import math
from functools import partial

import numpy as np
import pandas as pd

from cytonet_pipeline.dataset import Brain
from cytonet_pipeline.dataset.areas import area_table_path
from cytonet_pipeline.dataset.files import read_tsv
from cytonet_pipeline.errors import DataFault
from cytonet_pipeline.patches.masks import CortexMask
from cytonet_pipeline.patches.sampling import draw_positions, section_generator
from cytonet_pipeline.patches.section_plan import PlannedSection, plan_sections
from cytonet_pipeline.registration import BrainChain
from cytonet_pipeline.registration.quality.hemispheres import AnnotatedPoints

# More sections say nothing new about a chain or about left and right, but their images would have to be read.
_MOST_MASKS = 100
_MOST_ANNOTATIONS = 50
# Annotated cortex is a few per cent of a scan's field of view: most places hit nothing.
_TRIED_PLACES = 20_000


def cortex_points(brain: Brain, sections: pd.DataFrame, chain: BrainChain, n: int, seed: int = 0) -> np.ndarray:
    """Sample points uniformly from the cortex masks of a brain.

    Masks derived from the reference are left out: they would agree with it for any chain.

    Parameters
    ----------
    sections : DataFrame
        The brain's `section_scans`.
    n : int
        Approximate number of points.

    Returns
    -------
    (N, 3) array
        Brain mm. Empty if no section has its own mask.
    """
    plan = plan_sections(brain, sections, chain)
    plan = plan[:: math.ceil(len(plan) / _MOST_MASKS) or 1]
    masked = [(section, mask) for section in plan if (mask := _own_mask(section))]
    volumes_mm3 = [
        section.represents_mm * mask.brain_area_mm2(partial(chain.scan_to_brain, section.sample), warped=section.warped)
        for section, mask in masked
    ]
    whole_mm3 = sum(float(volume.sum()) for volume in volumes_mm3)
    points = [np.empty((0, 3))]
    for (section, mask), volume in zip(masked, volumes_mm3, strict=True):
        generator = section_generator(seed, brain.name, section.sample, "quality")
        share = round(n * float(volume.sum()) / whole_mm3) if whole_mm3 > 0 else 0
        xy_px = draw_positions(mask, volume, share, section.pixel_um, generator)
        points.append(chain.scan_to_brain(section.sample, xy_px * section.pixel_um / 1000))
    return np.concatenate(points)


def _own_mask(section: PlannedSection) -> CortexMask | None:
    try:
        return section.own_mask()
    except DataFault:
        return None


def annotated_points(brain: Brain, sections: pd.DataFrame, chain: BrainChain, n: int, seed: int = 0) -> AnnotatedPoints:
    """Sample points from the annotations of a brain; sections whose annotation cannot be read are skipped.

    Parameters
    ----------
    sections : DataFrame
        The brain's `section_scans`.
    n : int
        Approximate upper limit of the number of points.
    """
    plan = [section for section in plan_sections(brain, sections, chain) if section.has_annotation]
    plan = plan[:: math.ceil(len(plan) / _MOST_ANNOTATIONS) or 1]
    sampled = [_annotated_in(brain, section, chain, math.ceil(n / len(plan)), seed) for section in plan]
    if not sampled:
        return AnnotatedPoints.none()
    areas = np.concatenate([areas for _, areas in sampled])
    hemisphere_of = _hemispheres(brain)
    hemispheres = np.array([hemisphere_of.get(int(area), "") for area in areas], dtype="<U1")
    return AnnotatedPoints(np.concatenate([points for points, _ in sampled]), areas, hemispheres)


def _annotated_in(
    brain: Brain, section: PlannedSection, chain: BrainChain, n: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    generator = section_generator(seed, brain.name, section.sample, "annotated")
    xy_mm = generator.random((_TRIED_PLACES, 2)) * (section.width_mm, section.height_mm)
    try:
        areas = section.annotation_at(xy_mm)
    except DataFault:
        areas = np.zeros(len(xy_mm), dtype=np.int32)
    hit = np.flatnonzero(areas > 0)[:n]
    return chain.scan_to_brain(section.sample, xy_mm[hit]), areas[hit]


def _hemispheres(brain: Brain) -> dict[int, str]:
    """Return the hemisphere by index of the area, where the table of areas distinguishes left and right."""
    path = area_table_path(brain.root)
    if not path.is_file():
        return {}
    try:
        table = read_tsv(path, ("index",))
    except DataFault:
        return {}
    if "hemisphere" not in table:
        return {}
    # A table with faults is reported elsewhere; its other rows are still valid.
    table["index"] = pd.to_numeric(table["index"], errors="coerce")
    valid = table[table["hemisphere"].isin(["L", "R"]) & table["index"].notna()]
    return {int(index): hemi for index, hemi in zip(valid["index"], valid["hemisphere"], strict=True)}
