"""Roles of a brain's sections: training, validation or test, in contiguous blocks of whole sections with gaps.

Neighbouring sections show nearly the same tissue, so a test section beside a training section tests memory. Blocks
depend on a brain's name and its sections' positions alone: neither other brains nor annotations move them. Another rule
of splitting is another `assign_splits`.
"""

import math
from collections.abc import Mapping

import numpy as np

from cytonet_pipeline.patches.ids import hash_of_text
from cytonet_pipeline.patches.section_plan import represented_mm
from cytonet_pipeline.settings import DatasetBlock

_GOLDEN_SECTION = (math.sqrt(5) - 1) / 2


def assign_splits(
    brain_name: str,
    positions_mm: Mapping[str, float],
    block: DatasetBlock,
    held_out: str,
    *,
    reach_mm: Mapping[str, float] | None = None,
    with_validation: bool = False,
) -> dict[str, str]:
    """Assign a role to every section of a brain.

    The series is divided into `test_blocks` equal stretches. Each holds one test block of `test_share` of its length;
    the brain's name decides its place in the stretch. A short series has fewer blocks, and a block that meets no
    section takes the nearest one. Validation blocks are cut in the same way from the length that remains after test
    blocks and their gaps.

    Parameters
    ----------
    positions_mm : mapping from sample to float
        Position of each section along the axis of the series, in brain mm.
    held_out : str
        The unseen brain: all its sections are `unseen_brain`.
    reach_mm : mapping from sample to float, optional
        How far each section reaches from its position along the axis: sections that are tilted against each other are
        closer than their middles. Default: 0.
    with_validation : bool
        Also cut `validation` blocks, with gaps between them and training.

    Returns
    -------
    dict from sample to str
        `train`, `validation`, `gap`, `seen_brains` (test) or `unseen_brain`, in the order of `positions_mm`. Sections
        of which any point may lie within `gap_mm` of a test section are used neither for training nor for validation.
        A series too short to spare a test or a validation section has none.
    """
    if brain_name == held_out:
        return dict.fromkeys(positions_mm, "unseen_brain")
    samples = sorted(positions_mm, key=lambda sample: (positions_mm[sample], sample))
    at_mm = np.array([positions_mm[sample] for sample in samples], dtype=np.float64)
    reaches_mm = np.array([(reach_mm or {}).get(sample, 0.0) for sample in samples], dtype=np.float64)
    lengths_mm = represented_mm(np.diff(at_mm))
    roles = np.full(len(samples), "train", dtype=object)

    def cut(role: str, share: float, least: int) -> None:
        training = np.flatnonzero(roles == "train")
        if len(training) < least:
            return
        phase = phase_of(brain_name, role)
        taken = training[in_blocks(lengths_mm[training], share, block.test_blocks, phase)]
        apart_mm = np.abs(at_mm[training, None] - at_mm[taken]) - reaches_mm[training, None] - reaches_mm[taken]
        near = apart_mm.min(axis=1) <= block.gap_mm
        if role == "validation" and near.all():
            return
        roles[training[near]] = "gap"
        roles[taken] = role

    cut("seen_brains", block.test_share, least=2)
    if with_validation and block.validation_share > 0:
        cut("validation", block.validation_share, least=3)
    role_of = dict(zip(samples, map(str, roles), strict=True))
    return {sample: role_of[sample] for sample in positions_mm}


def phase_of(brain_name: str, role: str) -> float:
    """Return where in its stretch of the series each block of a brain lies, 0 to 1.

    A number at the end of the name advances the phase by the golden section: B01, B02, … are staggered evenly, however
    few they are, where hashes alone would often coincide. The rest of the name is hashed.
    """
    stem = brain_name.rstrip("0123456789")
    number = int(brain_name[len(stem) :] or 0)
    return (hash_of_text("split", role, stem) / 2**64 + number * _GOLDEN_SECTION) % 1.0


def in_blocks(lengths_mm: np.ndarray, share: float, blocks: int, phase: float) -> np.ndarray:
    """Tell which sections lie in short blocks spread evenly over a series.

    Parameters
    ----------
    lengths_mm : (N,) array
        Length that each section represents, in the order of the series.
    share : float
        Share of the whole length that the blocks take together.
    blocks : int
        Maximum number of blocks. A block has room for at least one section, and a stretch for one more.
    phase : float
        0 to 1: position of each block in its stretch, from beginning to end.

    Returns
    -------
    (N,) bool array
        At least one is true.
    """
    ends_mm = np.cumsum(lengths_mm)
    centres_mm = ends_mm - lengths_mm / 2
    # Without the 1e-9, 0.1 × 30 would need four blocks.
    spared = min(math.ceil(share * len(lengths_mm) - 1e-9), (len(lengths_mm) - 1) // 2)
    count = max(1, min(blocks, spared))
    stretch_mm = ends_mm[-1] / count
    starts_mm = (np.arange(count) + phase * (1 - share)) * stretch_mm
    stops_mm = starts_mm + share * stretch_mm
    inside = (centres_mm[:, None] >= starts_mm) & (centres_mm[:, None] < stops_mm)
    for empty in np.flatnonzero(~inside.any(axis=0)):
        middle_mm = (starts_mm[empty] + stops_mm[empty]) / 2
        inside[np.argmin(np.abs(centres_mm - middle_mm)), empty] = True
    return inside.any(axis=1)
