"""Pairwise comparison of encoders: both are scored on the same resampled blocks of the same patches.

A comparison here is between two trained networks; the spread over training seeds is a separate question.
"""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from cytonet_pipeline.evaluation.metrics.intervals import MIN_BLOCKS, blocks_of, draw_blocks
from cytonet_pipeline.evaluation.metrics.scoring import count_patches

COLUMNS = (
    "protocol", "split", "encoder_a", "encoder_b", "n_patches", "n_blocks", "macro_f1_a", "macro_f1_b",
    "difference", "difference_low", "difference_high", "p", "p_holm",
)  # fmt: skip


def compare_pair(a: pd.DataFrame, b: pd.DataFrame, gap_mm: float, n: int, seed: int) -> dict[str, float | int]:
    """Measure the difference in macro F1 of two encoders on the patches that both were scored on.

    Parameters
    ----------
    a, b : DataFrame
        Predictions of one split: `patch_id`, `brain`, `sample`, `position_mm`, `area`, `predicted_area`, `in_top`.
    n : int
        Resamplings of blocks.

    Returns
    -------
    dict
        The scores, their difference a − b with its 95 % interval, and `p`: twice the smaller share of resamplings on
        either side of zero, (k + 1)/(n + 1). Interval and `p` are NaN with fewer than ten blocks.
    """
    shared = np.intersect1d(a["patch_id"], b["patch_id"])
    a, b = (f[f["patch_id"].isin(shared)].sort_values("patch_id").reset_index(drop=True) for f in (a, b))
    areas = np.unique(a["area"])
    block, brain_of_block = blocks_of(a, gap_mm)
    counts = [count_patches(f, block, areas) for f in (a, b)]
    whole = np.ones((1, len(brain_of_block)))
    f1_a, f1_b = (float(c.resampled(whole).scores()["macro_f1"][0]) for c in counts)
    comparison: dict[str, float | int] = {
        "n_patches": len(a), "n_blocks": len(brain_of_block), "macro_f1_a": f1_a, "macro_f1_b": f1_b,
        "difference": f1_a - f1_b, "difference_low": np.nan, "difference_high": np.nan, "p": np.nan,
    }  # fmt: skip
    if len(brain_of_block) >= MIN_BLOCKS and n > 0:
        times = draw_blocks(brain_of_block, n, seed)
        f1 = [c.resampled(times).scores()["macro_f1"] for c in counts]
        difference = f1[0] - f1[1]
        comparison["difference_low"], comparison["difference_high"] = np.quantile(difference, [0.025, 0.975]).tolist()
        tail = min(int((difference <= 0).sum()), int((difference >= 0).sum()))
        comparison["p"] = min(1.0, 2 * (tail + 1) / (n + 1))
    return comparison


def compare_all(predictions: Mapping[tuple[str, str], pd.DataFrame], gap_mm: float, n: int, seed: int) -> pd.DataFrame:
    """Compare every pair of encoders within each protocol and split.

    Parameters
    ----------
    predictions : mapping
        Predictions of both splits by encoder and protocol.

    Returns
    -------
    DataFrame
        A row per pair, with `p_holm`: corrected by Holm's method for all pairs of its protocol and split.
    """
    tables = []
    for protocol in sorted({protocol for _, protocol in predictions}):
        encoders = sorted(encoder for encoder, p in predictions if p == protocol)
        for split in ("seen_brains", "unseen_brain"):
            rows = []
            for first, second in combinations(encoders, 2):
                a, b = (_of_split(predictions[name, protocol], split) for name in (first, second))
                if len(np.intersect1d(a["patch_id"], b["patch_id"])):
                    keys = {"protocol": protocol, "split": split, "encoder_a": first, "encoder_b": second}
                    rows.append({**keys, **compare_pair(a, b, gap_mm, n, seed)})
            if rows:
                p = np.array([row["p"] for row in rows], dtype=np.float64)
                tables.append(pd.DataFrame(rows).assign(p_holm=holm(p))[list(COLUMNS)])
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(COLUMNS))


def _of_split(predictions: pd.DataFrame, split: str) -> pd.DataFrame:
    return predictions[predictions["split"] == split]


def holm(p: np.ndarray) -> np.ndarray:
    """Return p values corrected by Holm's step-down method (Holm 1979); NaN stays NaN and counts as no test."""
    corrected = np.full(len(p), np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected
