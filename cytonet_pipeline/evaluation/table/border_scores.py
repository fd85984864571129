"""What looking at cells adds to position: scores at borders of the atlas, and errors of position that are corrected.

Near a border, the place of a patch says least about its area: borders differ between brains by millimetres. How far a
patch is from the nearest one comes from the atlas and its place in Colin-27 (`registration/reference/borders.py`), what
counts as correct from the annotation.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cytonet_pipeline.errors import DataFault
from cytonet_pipeline.evaluation.metrics.intervals import intervals, share_interval
from cytonet_pipeline.evaluation.metrics.scoring import scores
from cytonet_pipeline.evaluation.table.entry import Entry, Resampling
from cytonet_pipeline.registration import ReferenceSpace
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import REFERENCE_MM

# Of the design: position errs most often this close to a border; a patch of 4 mm there shows both areas.
BORDER_MM = 3.0
# The only protocol that positions go through; other protocols are held against it.
_OF_POSITION = "knn"
_KEYS = ["encoder", "protocol", "labels_per_area", "draw", "split"]


@dataclass(frozen=True)
class BorderDistances:
    """Distance of patches from the nearest border of the atlas.

    Attributes
    ----------
    patches : DataFrame
        Table `border_distances`; NaN where the distance is not known or not finite.
    remark : str
        Why there are none; empty if there are.
    """

    patches: pd.DataFrame
    remark: str = ""


def border_distances(places: pd.DataFrame, settings: Settings) -> BorderDistances:
    """Measure how far patches are from the nearest border of the atlas; once for all encoders.

    Parameters
    ----------
    places : DataFrame
        `patch_id`, `brain`, `sample`, `hemisphere` and the position in Colin-27.
    """
    patches = places[["patch_id", "brain", "sample"]].assign(border_mm=np.float32(np.nan)).reset_index(drop=True)
    if patches.empty:
        return BorderDistances(patches)
    try:
        reference = ReferenceSpace.load(settings.reference)
    except DataFault as error:
        return BorderDistances(patches, f"no F1 at borders: the atlas cannot be read ({error.what.rstrip('.')})")
    points_mm = places[list(REFERENCE_MM)].to_numpy(np.float64)
    distances_mm = reference.border_distance_mm(points_mm, places["hemisphere"].to_numpy())
    patches["border_mm"] = np.where(np.isfinite(distances_mm), distances_mm, np.nan).astype(np.float32)
    near = int((patches["border_mm"] <= BORDER_MM).sum())
    remark = "" if near else f"no F1 at borders: no patch lies within {BORDER_MM:g} mm of a border between two areas"
    return BorderDistances(patches, remark)


def border_columns(
    entries: list[Entry], resampling: Resampling
) -> tuple[dict[tuple[object, ...], dict[str, float | int]], list[str]]:
    """Measure the columns on borders and on errors of position of the rows that have predictions.

    Rows of few labels get no intervals, as in the other scores: their spread is over draws.

    Parameters
    ----------
    entries : list of Entry
        Their rows with `border_mm`.

    Returns
    -------
    columns : dict
        By encoder, protocol, labels, draw and split.
    remarks : list of str
        Why values are missing, a sentence for each reason.
    """
    found: dict[tuple[object, ...], dict[str, float | int]] = {}
    remarks: dict[str, None] = {}
    for entry in entries:
        control, why_not = _control_of(entry, entries)
        if why_not:
            remarks[why_not] = None
        resampled = resampling._replace(n=0) if entry.labels_per_area else resampling
        for split, rows in entry.rows.groupby("split", sort=True):
            columns = at_borders(rows, resampled)
            if control is not None:
                columns |= corrected(rows, control.rows[control.rows["split"] == split], resampled)
            found[(*entry.key, split)] = columns
    return found, list(remarks)


def with_border_columns(
    metrics: pd.DataFrame, columns: Mapping[tuple[object, ...], Mapping[str, float | int]]
) -> pd.DataFrame:
    """Add to table `metrics` what `border_columns` measured; rows without it have no values."""
    if not columns:
        return metrics
    added = pd.DataFrame(list(columns.values()), index=pd.MultiIndex.from_tuples(columns, names=_KEYS))
    placed = added.reindex(pd.MultiIndex.from_frame(metrics[_KEYS]))
    return metrics.assign(**{str(name): placed[name].to_numpy() for name in placed})


def at_borders(rows: pd.DataFrame, resampling: Resampling) -> dict[str, float | int]:
    """Score the patches near a border; the average is over areas that occur among them.

    Parameters
    ----------
    rows : DataFrame
        Predictions of one split: `border_mm` and what `intervals` needs.
    """
    near = rows[rows["border_mm"] <= BORDER_MM].reset_index(drop=True)
    low, high = intervals(near, *resampling).get("macro_f1", (np.nan, np.nan)) if len(near) else (np.nan, np.nan)
    return {
        "n_border_patches": len(near) if rows["border_mm"].notna().any() else np.nan,
        "border_macro_f1": scores(near)["macro_f1"],
        "border_macro_f1_low": low,
        "border_macro_f1_high": high,
    }


def corrected(rows: pd.DataFrame, control: pd.DataFrame, resampling: Resampling) -> dict[str, float | int]:
    """Measure the share of the control's errors that predictions get right, on the patches that both were scored on.

    Parameters
    ----------
    rows, control : DataFrame
        Predictions of one split: `patch_id`, `area`, `predicted_area`, and `brain`, `sample`, `position_mm`.
    """
    beside = control[["patch_id", "predicted_area"]].rename(columns={"predicted_area": "by_position"})
    shared = rows.merge(beside, on="patch_id")
    wrong = shared[shared["by_position"] != shared["area"]].reset_index(drop=True)
    right = (wrong["predicted_area"] == wrong["area"]).to_numpy()
    low, high = share_interval(wrong, right, *resampling)
    return {
        "n_position_errors": len(wrong),
        "position_errors_corrected": float(right.mean()) if len(wrong) else np.nan,
        "position_errors_corrected_low": low,
        "position_errors_corrected_high": high,
    }


def _control_of(entry: Entry, entries: list[Entry]) -> tuple[Entry | None, str]:
    """Return the position control that an entry is held against, or why there is none."""
    controls = {e.protocol: e for e in reversed(entries) if e.method == "position" and e.budget == entry.budget}
    control = controls.get(entry.protocol) or controls.get(_OF_POSITION)
    if control is None:
        who = f"rows of {entry.labels_per_area} labels per area" if entry.labels_per_area else entry.title
        return None, f"no share of position's errors for {who}: no control of method `position` beside it"
    if control.classes != entry.classes:
        return None, (
            f"no share of position's errors for {entry.title}: it knows other areas than {control.encoder} "
            f"({len(entry.classes)} and {len(control.classes)})"
        )
    return control, ""


def border_rows(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the table that have values at borders or on position's errors."""
    columns = ["border_macro_f1", "position_errors_corrected"]
    return metrics[metrics[columns].notna().any(axis=1)]
