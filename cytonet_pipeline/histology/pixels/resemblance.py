"""Whether a level of a pyramid shows the same picture as the next finer one.

A macro photograph can have exactly a quarter of the scan's size, and nothing in the file need say what it is.
"""

import numpy as np

from cytonet_pipeline.histology.formats.levels import Level
from cytonet_pipeline.histology.pixels.mosaic import Mosaic

_PLACES_EACH_WAY = 4
_BLOCK_PX = 32
# Means of blocks of two levels of one scan differ by less than a grey value, or by a few if the coarser one was made by
# leaving pixels out; those of two pictures by tens.
_DIFFERENT, _ALIKE = 12.0, 0.7


def is_other_picture(mosaic: Mosaic, level: Level, finer: Level) -> bool:
    """Compare the means of blocks that are spread over both levels (8 bit)."""
    ratio = level.factor / finer.factor
    rows, columns = (_places(edge) for edge in (level.height, level.width))
    coarse = np.array([_mean(mosaic, level, y, x, 1.0) for y in rows for x in columns])
    fine = np.array([_mean(mosaic, finer, y, x, ratio) for y in rows for x in columns])
    if np.abs(coarse - fine).mean() <= _DIFFERENT:
        return False
    if min(coarse.std(), fine.std()) < 1:
        return True
    return float(np.corrcoef(coarse, fine)[0, 1]) < _ALIKE


def _places(edge: int) -> list[int]:
    """Return where blocks begin along an edge, the first and the last at its ends."""
    return sorted(set(np.linspace(0, max(0, edge - _BLOCK_PX), _PLACES_EACH_WAY).astype(int).tolist()))


def _mean(mosaic: Mosaic, level: Level, y: int, x: int, ratio: float) -> float:
    """Return the mean of a block at (y, x), which are pixels `ratio` times as wide as the level's."""
    height, width = (
        max(1, min(round(_BLOCK_PX * ratio), edge - round(at * ratio)))
        for edge, at in ((level.height, y), (level.width, x))
    )
    block = np.empty((height, width), np.uint8)
    mosaic.region(level, round(y * ratio), round(x * ratio), block)
    return float(block.mean())
