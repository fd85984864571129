"""Positions of patches: uniform in the cortex, with the same density per mm³ at any resolution, size or spacing.

A section represents the slab of brain that reaches half-way to its neighbours, so it gets `density × area × length`
patches. Every section draws from its own counter-based sequence, of which it takes the first n: a change of one section
leaves the positions in all others where they are.
"""

import logging
import math
from collections.abc import Callable

import numpy as np

from cytonet_pipeline.patches.ids import hash_of_text
from cytonet_pipeline.patches.masks import CortexMask

log = logging.getLogger(__name__)

# `sampling: midline` keeps points within this depth of the middle of the cortex.
MIDLINE_DEPTH = 0.1
_LEAST_BATCH = 1024
# Candidates per position: beyond that a mask has no room left, or no cortex at mid-depth.
_MOST_CANDIDATES = 200

Accept = Callable[[np.ndarray], np.ndarray]


def section_generator(seed: int, brain: str, sample: str, purpose: str) -> np.random.Generator:
    """Return the random generator of one section for one purpose: counter-based (Philox), independent of all others."""
    return np.random.Generator(np.random.Philox(key=hash_of_text(str(seed), brain, sample, purpose)))


def number_of_patches(expected: float, generator: np.random.Generator) -> int:
    """Round `expected` up or down at random, keeping the mean; a larger value never gives a smaller number."""
    return math.floor(expected + generator.random())


def draw_positions(
    mask: CortexMask,
    area_mm2: np.ndarray,
    n: int,
    pixel_um: float,
    generator: np.random.Generator,
    accept: Accept | None = None,
) -> np.ndarray:
    """Draw distinct patch centres inside a mask.

    Parameters
    ----------
    area_mm2 : (M,) array
        Brain area of the pixels inside the mask, row-major (`CortexMask.brain_area_mm2`).
    n : int
        Number of positions. Those of a smaller n are the first of a larger one.
    pixel_um : float
        Full-resolution pixel size (µm).
    accept : callable, optional
        Tells which of (K, 2) positions (scan mm) may be taken; the others are redrawn.

    Returns
    -------
    (n, 2) int32 array
        x and y in full-resolution pixels. Fewer if the mask has no room for n.
    """
    rows, columns = np.nonzero(mask.inside)
    until_mm2 = np.cumsum(area_mm2)
    taken_px = np.empty((0, 2), dtype=np.int32)
    if n == 0 or len(until_mm2) == 0 or until_mm2[-1] <= 0:
        return taken_px
    candidates = 0
    while len(taken_px) < n and candidates < _MOST_CANDIDATES * (n + _LEAST_BATCH):
        # The sequence does not depend on how it is divided into batches: that makes positions nested in n.
        u = generator.random((max(_LEAST_BATCH, n - len(taken_px)), 3))
        candidates += len(u)
        pixel = np.minimum(np.searchsorted(until_mm2, u[:, 0] * until_mm2[-1], side="right"), len(until_mm2) - 1)
        xy_mm = np.stack([columns[pixel] + u[:, 1], rows[pixel] + u[:, 2]], axis=1) * mask.pixel_mm
        if accept is not None:
            xy_mm = xy_mm[accept(xy_mm)]
        # Rounded down: a centre on the far border of the last pixel would otherwise lie outside mask and scan.
        taken_px = _first_of_each(np.concatenate([taken_px, np.floor(xy_mm * 1000 / pixel_um).astype(np.int32)]))
    if len(taken_px) < n:
        log.warning("only %d of %d patches have distinct positions", len(taken_px), n)
    return taken_px[:n]


def _first_of_each(xy_px: np.ndarray) -> np.ndarray:
    packed = xy_px[:, 0].astype(np.int64) << 32 | xy_px[:, 1].astype(np.int64)
    _, first = np.unique(packed, return_index=True)
    return xy_px[np.sort(first)]
