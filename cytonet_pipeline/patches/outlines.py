"""Outlines of the cortex masks of a few sections, for the picture of a brain's chain."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from contourpy import contour_generator

from cytonet_pipeline.dataset import Brain
from cytonet_pipeline.errors import DataFault
from cytonet_pipeline.patches.masks import CortexMask
from cytonet_pipeline.patches.section_plan import PlannedSection, plan_sections
from cytonet_pipeline.registration import BrainChain

# Finer detail cannot be seen in a picture of a whole section.
_FINEST_MM = 0.25
_SHORTEST = 12


def cortex_outlines(
    brain: Brain, sections: pd.DataFrame, chain: BrainChain, count: int = 3
) -> dict[str, list[np.ndarray]]:
    """Return the outlines of the cortex masks of a few sections, evenly along the series without its ends.

    Parameters
    ----------
    sections : DataFrame
        The brain's `section_scans`.

    Returns
    -------
    dict of lists of (N, 3) arrays
        By sample, in the order of the series; closed lines in brain mm. Sections without their own mask are
        skipped.
    """
    plan = [section for section in plan_sections(brain, sections, chain) if section.has_mask]
    return {section.sample: _outlines(section, chain) for section in _spread(plan, count)}


def _spread(plan: Sequence[PlannedSection], count: int) -> list[PlannedSection]:
    if len(plan) <= count:
        return list(plan)
    return [plan[i] for i in np.linspace(0, len(plan) - 1, count + 2)[1:-1].round().astype(int)]


def _outlines(section: PlannedSection, chain: BrainChain) -> list[np.ndarray]:
    try:
        mask = section.own_mask()
    except DataFault:
        mask = None
    if mask is None:
        return []
    return [chain.scan_to_brain(section.sample, line_mm) for line_mm in _lines_mm(mask)]


def _lines_mm(mask: CortexMask) -> list[np.ndarray]:
    """Return closed lines around the inside of a mask, (N, 2) scan mm."""
    step = max(1, int(_FINEST_MM / max(mask.pixel_mm)))
    inside = np.pad(mask.inside[::step, ::step].astype(np.float32), 1)
    lines = contour_generator(z=inside).lines(0.5)
    # One pixel of padding; the lines count from pixel centres.
    return [
        (np.asarray(line) - 0.5) * step * np.array(mask.pixel_mm)
        for line in lines
        if len(np.asarray(line)) >= _SHORTEST
    ]
