"""Grey values of a training set: what the network's input is normalised with."""

import numpy as np
import pandas as pd

from cytonet_pipeline.learning.packing import PackedPatches

_SAMPLE = 4096


def grey_statistics(pack: PackedPatches, patches: pd.DataFrame, work_px: int) -> tuple[float, float]:
    """Mean and standard deviation of training patches, in 0..1, from the first few thousand by `order`."""
    rows = np.flatnonzero((patches["role"] == "train").to_numpy())
    rows = rows[np.argsort(patches["order"].to_numpy()[rows], kind="stable")[:_SAMPLE]]
    images = pack.read(rows)
    start = (images.shape[-1] - work_px) // 2
    crop = images[:, start : start + work_px, start : start + work_px].astype(np.float64) / 255
    return float(crop.mean()), max(float(crop.std()), 1e-3)
