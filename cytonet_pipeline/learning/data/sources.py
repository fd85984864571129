"""Where a training's pixels come from: a pack, or the scans themselves."""

from typing import Protocol

import numpy as np


class PatchSource(Protocol):
    """The patches of a training set, by row of its `patches.parquet`."""

    edge_px: int

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Patches (len(rows), edge_px, edge_px), uint8, with the margin that augmentation needs."""
        ...
