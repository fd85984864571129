"""Points of a brain's own cortex, by which its chain is judged: they should meet the cortex of the reference."""

import math
from functools import partial

import numpy as np
import pandas as pd

from cytonet_pipeline.dataset import Brain
from cytonet_pipeline.errors import DataFault
from cytonet_pipeline.patches.masks import CortexMask
from cytonet_pipeline.patches.sampling import draw_positions, section_generator
from cytonet_pipeline.patches.section_plan import PlannedSection, plan_sections
from cytonet_pipeline.registration import BrainChain

# More sections than these say nothing new about a chain, but their masks must be read.
_MOST_SECTIONS = 100


def cortex_points(brain: Brain, sections: pd.DataFrame, chain: BrainChain, n: int, seed: int = 0) -> np.ndarray:
    """Sample the masks of a brain uniformly.

    Masks derived from the reference are left out: they would agree with it whatever the chain is.

    Parameters
    ----------
    sections : DataFrame
        The brain's `section_scans`.
    n : int
        About how many points.

    Returns
    -------
    (N, 3) array
        Brain mm. Empty if no section has a mask of its own.
    """
    plan = plan_sections(brain, sections, chain)
    plan = plan[:: math.ceil(len(plan) / _MOST_SECTIONS) or 1]
    found = [(section, mask) for section in plan if (mask := _own_mask(section))]
    volumes_mm3 = [
        section.represents_mm * mask.brain_area_mm2(partial(chain.scan_to_brain, section.sample), warped=section.warped)
        for section, mask in found
    ]
    whole_mm3 = sum(float(volume.sum()) for volume in volumes_mm3)
    points = [np.empty((0, 3))]
    for (section, mask), volume in zip(found, volumes_mm3, strict=True):
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
