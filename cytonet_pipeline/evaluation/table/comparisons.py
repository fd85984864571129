"""Pairwise comparison of encoders: both are measured on the same resampled blocks of the same patches.

Only like is compared with like: the same protocol and number of labels, the same unseen brain, and classifiers that
know the same areas. A comparison here is between two trained networks; the spread over training seeds is a separate
question.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from cytonet_pipeline.evaluation.metrics.intervals import MIN_BLOCKS, blocks_of, draw_blocks, resampled_medians
from cytonet_pipeline.evaluation.metrics.scoring import count_patches
from cytonet_pipeline.evaluation.table.border_scores import BORDER_MM
from cytonet_pipeline.evaluation.table.entry import Entry, Resampling
from cytonet_pipeline.store import table

# Blocks of N patches and how often each occurs in R resamplings, to R values of the measure.
Drawn = Callable[[pd.DataFrame, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Measure:
    """What is compared.

    Attributes
    ----------
    name : str
        Column of the table of results.
    of : callable
        Patches, the block of each (N,), and how often each block occurs (R, B), to values (R,).
    patches : callable
        Which patches of an entry count, (N,) bool; none: the entry is not measured.
    """

    name: str
    of: Drawn
    patches: Callable[[pd.DataFrame], np.ndarray]


def _macro_f1(rows: pd.DataFrame, block: np.ndarray, times: np.ndarray) -> np.ndarray:
    scored = rows if "in_top" in rows else rows.assign(in_top=False)
    return count_patches(scored, block, np.unique(rows["area"])).resampled(times).scores()["macro_f1"]


def _median_mm(rows: pd.DataFrame, block: np.ndarray, times: np.ndarray) -> np.ndarray:
    return resampled_medians(rows["distance_mm"].to_numpy(), block, times)


def _predicted(rows: pd.DataFrame) -> np.ndarray:
    return np.full(len(rows), "predicted_area" in rows)


def _near_borders(rows: pd.DataFrame) -> np.ndarray:
    return (rows["border_mm"] <= BORDER_MM).to_numpy() if "border_mm" in rows else np.zeros(len(rows), bool)


def _retrieved(rows: pd.DataFrame) -> np.ndarray:
    return np.full(len(rows), "distance_mm" in rows)


MACRO_F1 = Measure("macro_f1", _macro_f1, _predicted)
AT_BORDERS = Measure("border_macro_f1", _macro_f1, _near_borders)
RETRIEVAL = Measure("retrieval_mm", _median_mm, _retrieved)
MEASURES = (MACRO_F1, AT_BORDERS, RETRIEVAL)


class Measured:
    """Values of entries on sets of patches, each computed once: an entry stands in many pairs."""

    def __init__(self, measure: Measure, resampling: Resampling) -> None:
        self._measure = measure
        self._resampling = resampling
        self._known: dict[tuple[object, ...], tuple[int, int, np.ndarray]] = {}

    def of(self, entry: Entry, split: str, patch_ids: np.ndarray) -> tuple[int, int, np.ndarray]:
        """Return number of patches and of blocks, and the values: of all patches first, then of each resampling.

        Without resamplings where there are fewer than ten blocks.
        """
        key = (*entry.key, split, patch_ids.tobytes())
        if key not in self._known:
            rows = entry.rows[(entry.rows["split"] == split).to_numpy() & entry.rows["patch_id"].isin(patch_ids)]
            rows = rows.sort_values("patch_id").reset_index(drop=True)
            block, brain_of_block = blocks_of(rows, self._resampling.gap_mm)
            times = np.ones((1, len(brain_of_block)), dtype=np.int64)
            if len(brain_of_block) >= MIN_BLOCKS and self._resampling.n > 0:
                drawn = draw_blocks(brain_of_block, self._resampling.n, self._resampling.seed)
                times = np.concatenate([times, drawn])
            self._known[key] = len(rows), len(brain_of_block), self._measure.of(rows, block, times)
        return self._known[key]


def compare_pair(a: Entry, b: Entry, split: str, measured: Measured, patch_ids: np.ndarray) -> dict[str, float | int]:
    """Measure the difference of two encoders on patches that both were measured on.

    Returns
    -------
    dict
        The values, their difference a − b with its 95 % interval, and `p`: twice the smaller share of resamplings on
        either side of zero, (k + 1)/(n + 1). Interval and `p` are NaN with fewer than ten blocks.
    """
    n_patches, n_blocks, values_a = measured.of(a, split, patch_ids)
    _, _, values_b = measured.of(b, split, patch_ids)
    differences = values_a - values_b
    comparison: dict[str, float | int] = {
        "n_patches": n_patches, "n_blocks": n_blocks, "value_a": values_a[0], "value_b": values_b[0],
        "difference": differences[0], "difference_low": np.nan, "difference_high": np.nan, "p": np.nan,
    }  # fmt: skip
    drawn = differences[1:]
    if len(drawn):
        comparison["difference_low"], comparison["difference_high"] = np.quantile(drawn, [0.025, 0.975]).tolist()
        tail = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
        comparison["p"] = min(1.0, 2 * (tail + 1) / (len(drawn) + 1))
    return comparison


def compare_all(entries: Sequence[Entry], resampling: Resampling) -> pd.DataFrame:
    """Compare every pair of encoders by every measure (table `comparisons`).

    A family of tests, within which Holm's method corrects, is one measure, protocol, split, unseen brain, number of
    labels and draw. Pairs whose classifiers know other areas have a row that says so, and no values.
    """
    rows: list[dict[str, object]] = []
    for measure in MEASURES:
        measured = Measured(measure, resampling)
        for family in _families(entries):
            for split in ("seen_brains", "unseen_brain"):
                rows += _of_family(family, measure, split, measured)
    compared = pd.DataFrame(rows, columns=[column.name for column in table("comparisons").columns])
    return table("comparisons").validate(compared)


def in_order(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put tables `comparisons` of different budgets into one: all labels first, then by measure."""
    whole = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    rank = {measure.name: number for number, measure in enumerate(MEASURES)}
    whole = whole.assign(few=whole["labels_per_area"] > 0, rank=whole["measure"].map(rank))
    keys = ["few", "rank", "protocol", "held_out", "labels_per_area", "draw"]
    ordered = whole.sort_values(keys, kind="stable", ignore_index=True)
    return table("comparisons").validate(ordered.drop(columns=["few", "rank"]))


def _families(entries: Sequence[Entry]) -> list[list[Entry]]:
    keys = sorted({(entry.protocol, *entry.budget) for entry in entries})
    of_key = {key: [entry for entry in entries if (entry.protocol, *entry.budget) == key] for key in keys}
    return [sorted(family, key=lambda entry: entry.encoder) for family in of_key.values()]


def _of_family(family: Sequence[Entry], measure: Measure, split: str, measured: Measured) -> list[dict[str, object]]:
    ids = {entry.encoder: _patch_ids(entry, measure, split) for entry in family}
    rows: list[dict[str, object]] = []
    for a, b in combinations(family, 2):
        shared = ids[a.encoder]
        if not np.array_equal(shared, ids[b.encoder]):
            shared = np.intersect1d(shared, ids[b.encoder])
        if not len(shared):
            continue
        alike = a.classes == b.classes
        values = compare_pair(a, b, split, measured, shared) if alike else {"n_patches": 0, "n_blocks": 0}
        left_out = "" if alike else f"they know other areas ({len(a.classes)} and {len(b.classes)})"
        keys = {"measure": measure.name, "protocol": a.protocol, "split": split, "held_out": a.held_out,
                "labels_per_area": a.labels_per_area, "draw": a.draw, "encoder_a": a.encoder, "encoder_b": b.encoder,
                "left_out": left_out}  # fmt: skip
        rows.append({**keys, **values})
    p = np.array([row.get("p", np.nan) for row in rows], dtype=np.float64)
    n_family = int((~np.isnan(p)).sum())
    return [row | {"p_holm": value, "n_family": n_family} for row, value in zip(rows, holm(p), strict=True)]


def _patch_ids(entry: Entry, measure: Measure, split: str) -> np.ndarray:
    which = (entry.rows["split"] == split).to_numpy() & measure.patches(entry.rows)
    return np.sort(entry.rows["patch_id"].to_numpy(np.uint64)[which])


def holm(p: np.ndarray) -> np.ndarray:
    """Return p values corrected by Holm's step-down method (Holm 1979); NaN stays NaN and counts as no test."""
    corrected = np.full(len(p), np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected


def smallest_corrected_p(comparisons: pd.DataFrame, n: int) -> pd.DataFrame:
    """Return families whose tests cannot reach 0.05 with `n` resamplings, however large the difference.

    Returns
    -------
    DataFrame
        `measure`, `protocol`, `split`, `n_family`, and the smallest corrected p that can come out.
    """
    families = comparisons[["measure", "protocol", "split", "n_family"]].drop_duplicates()
    families = families[families["n_family"] > 0]
    smallest = np.minimum(1.0, 2 / (n + 1) * families["n_family"].to_numpy(np.float64))
    return families.assign(smallest=smallest)[smallest > 0.05].reset_index(drop=True)
