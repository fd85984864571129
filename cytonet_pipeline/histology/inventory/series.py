"""Sections in the series of their brain: the status and findings of each, and the gap before it."""

import numpy as np
import pandas as pd

from cytonet_pipeline.dataset import Brain, positions_mm
from cytonet_pipeline.histology.inventory.outliers import compare

# A regular series in which one section is missing has a gap of twice the usual; an uneven one has its own spread.
_GAP, _SPREADS = 1.75, 5.0
_MAD_TO_SIGMA = 1.4826
_FEWEST_FOR_GAPS = 4


def judge(rows: pd.DataFrame, brain: Brain) -> pd.DataFrame:
    """Add to the rows what follows from all of them together: `status`, `reason`, `findings`, `gap_mm`.

    Parameters
    ----------
    rows : DataFrame
        `section_scans` as each section's own files give them; earlier findings in them are ignored.
    """
    rows = rows.assign(gap_mm=np.nan, findings="")
    usable_rows = rows.index[rows["status"].isin(["ok", "flagged"])]
    if usable_rows.empty:
        return rows
    usable = rows.loc[usable_rows]
    along_mm = _positions(usable, brain)
    order = np.argsort(along_mm, kind="stable")
    if np.isfinite(along_mm).all():
        rows.loc[usable.index[order[1:]], "gap_mm"] = np.diff(along_mm[order])
    positions = along_mm if np.isfinite(along_mm).all() else usable["section"].to_numpy(np.float64)
    for index, findings in zip(usable.index, compare(usable, positions), strict=True):
        texts = [str(usable.at[index, "remarks"] or ""), *(finding.text for finding in findings)]
        reason = " ".join(text for text in texts if text)
        rows.at[index, "findings"] = ", ".join(dict.fromkeys(finding.name for finding in findings))
        rows.at[index, "reason"] = reason
        rows.at[index, "status"] = "flagged" if reason else "ok"
    return rows


def gaps(rows: pd.DataFrame) -> list[str]:
    """Describe the gaps in a series, one sentence each.

    A gap is more than 1.75 times the median distance of neighbours, and five robust standard deviations above it.
    """
    known = rows[rows["gap_mm"].notna()]
    if len(known) < _FEWEST_FOR_GAPS:
        return []
    usual = float(known["gap_mm"].median())
    spread = _MAD_TO_SIGMA * float((known["gap_mm"] - usual).abs().median())
    least = max(_GAP * usual, usual + _SPREADS * spread)
    wide = known[known["gap_mm"] > least]
    return [
        f"gap of {gap:.2f} mm before section {sample} (usual: {usual:.2f} mm)."
        for sample, gap in zip(wide["sample"], wide["gap_mm"], strict=True)
    ]


def _positions(usable: pd.DataFrame, brain: Brain) -> np.ndarray:
    """Return the place of each row along the series (brain mm); NaN for all if one has no matrix."""
    matrices = {section.sample: section.matrix for section in brain.sections}
    of_rows = [matrices.get(sample) for sample in usable["sample"]]
    placed = [matrix for matrix in of_rows if matrix is not None]
    if len(placed) < len(of_rows):
        return np.full(len(of_rows), np.nan)
    mm = usable["pixel_um"].to_numpy(np.float64)[:, None] / 1000
    return positions_mm(placed, usable[["width_px", "height_px"]].to_numpy(np.float64) * mm / 2)
