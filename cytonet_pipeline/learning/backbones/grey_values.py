"""Grey values of a training set: what the network's input is normalised with."""

import numpy as np
import pandas as pd

from cytonet_pipeline.learning.data.sources import PatchSource

_SAMPLE = 4096
_FEWEST = 64
_CHUNK = 64
# Of large patches fewer say as much.
_SAMPLE_PIXELS = 1 << 28


def grey_statistics(source: PatchSource, patches: pd.DataFrame, work_px: int) -> tuple[float, float]:
    """Mean and standard deviation of training patches, in 0..1, from the first few thousand by `order`."""
    rows = first_by_order(patches, max(_FEWEST, min(_SAMPLE, _SAMPLE_PIXELS // source.edge_px**2)))
    counts = np.zeros(256, dtype=np.int64)
    for start in range(0, len(rows), _CHUNK):
        images = source.read(rows[start : start + _CHUNK])
        edge = (images.shape[-1] - work_px) // 2
        crop = images[:, edge : edge + work_px, edge : edge + work_px]
        counts += np.bincount(crop.ravel(), minlength=256)
    values = np.arange(256) / 255
    mean = float(counts @ values / counts.sum())
    return mean, max(float(np.sqrt(counts @ (values - mean) ** 2 / counts.sum())), 1e-3)


def first_by_order(patches: pd.DataFrame, n: int) -> np.ndarray:
    """Rows of the first `n` training patches by `order`: a sample that is the same for every rank."""
    rows = np.flatnonzero((patches["role"] == "train").to_numpy())
    return rows[np.argsort(patches["order"].to_numpy()[rows], kind="stable")[:n]]
