"""Points of a brain with what was annotated there, by which left and right of its chain are judged."""

import math

import numpy as np
import pandas as pd

from cytonet_pipeline.dataset import Brain
from cytonet_pipeline.dataset.areas import area_table_path
from cytonet_pipeline.dataset.files import read_tsv
from cytonet_pipeline.errors import DataFault
from cytonet_pipeline.patches.sampling import section_generator
from cytonet_pipeline.patches.section_plan import PlannedSection, plan_sections
from cytonet_pipeline.registration import BrainChain
from cytonet_pipeline.registration.quality.hemispheres import AnnotatedPoints

# More sections than these say nothing new about left and right, but their annotations must be read.
_MOST_SECTIONS = 50
# Annotated cortex is a few per cent of a scan's field of view: most places hit nothing.
_TRIED_PLACES = 20_000


def annotated_points(brain: Brain, sections: pd.DataFrame, chain: BrainChain, n: int, seed: int = 0) -> AnnotatedPoints:
    """Sample the annotations of a brain; sections whose annotation cannot be read are passed over.

    Parameters
    ----------
    sections : DataFrame
        The brain's `section_scans`.
    n : int
        At most about so many points.
    """
    plan = [section for section in plan_sections(brain, sections, chain) if section.has_annotation]
    plan = plan[:: math.ceil(len(plan) / _MOST_SECTIONS) or 1]
    found = [_of_section(brain, section, chain, math.ceil(n / len(plan)), seed) for section in plan]
    if not found:
        return AnnotatedPoints.none()
    areas = np.concatenate([areas for _, areas in found])
    hemisphere_of = _hemispheres(brain)
    hemispheres = np.array([hemisphere_of.get(int(area), "") for area in areas], dtype="<U1")
    return AnnotatedPoints(np.concatenate([points for points, _ in found]), areas, hemispheres)


def _of_section(
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
    """By index of the area, where the annotations' table tells left from right."""
    path = area_table_path(brain.root)
    if not path.is_file():
        return {}
    try:
        table = read_tsv(path, ("index",))
    except DataFault:
        return {}
    if "hemisphere" not in table:
        return {}
    # A table with faults is told of elsewhere; what it says of the other areas is still good.
    table["index"] = pd.to_numeric(table["index"], errors="coerce")
    told = table[table["hemisphere"].isin(["L", "R"]) & table["index"].notna()]
    return {int(index): hemi for index, hemi in zip(told["index"], told["hemisphere"], strict=True)}
