"""What a section is among the others of its brain: its status, its findings, and the gap before it in the series."""

import numpy as np
import pandas as pd

from cytonet_pipeline.dataset import Brain, positions_mm
from cytonet_pipeline.histology.inventory.outliers import compare

# A regular series in which one section is missing has a gap of twice the usual; an uneven one has its own spread.
_GAP, _SPREADS = 1.75, 5.0
_MAD_TO_SIGMA = 1.4826
_FEWEST_FOR_GAPS = 4


def judged(rows: pd.DataFrame, brain: Brain) -> pd.DataFrame:
    """Rows with what follows from all of them together: `status`, `reason`, `findings`, `gap_mm`.

    Parameters
    ----------
    rows : DataFrame
        `section_scans` as each section's own files give them; also with earlier findings, which do not count.
    """
    rows = rows.assign(gap_mm=np.nan, findings="")
    open_to_use = rows.index[rows["status"].isin(["ok", "flagged"])]
    if open_to_use.empty:
        return rows
    usable = rows.loc[open_to_use]
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
    """Sentences on the gaps in a series.

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
    """Where each row lies along the series (brain mm); NaN for all if one has no matrix."""
    matrices = {section.sample: section.matrix for section in brain.sections}
    found = [matrices.get(sample) for sample in usable["sample"]]
    placed = [matrix for matrix in found if matrix is not None]
    if len(placed) < len(found):
        return np.full(len(found), np.nan)
    mm = usable["pixel_um"].to_numpy(np.float64)[:, None] / 1000
    return positions_mm(placed, usable[["width_px", "height_px"]].to_numpy(np.float64) * mm / 2)
