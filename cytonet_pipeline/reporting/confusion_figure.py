"""Which areas are taken for which: predictions against annotations."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cytonet_pipeline.reporting.style import ROLE_NAMES, new_figure, panels, save

MOST_AREAS = 40


def confusion_figure(predictions: pd.DataFrame, names: pd.DataFrame, path: Path, title: str) -> Path:
    """Draw table `predictions` as confusion matrices into a file."""
    return save(draw_confusion(predictions, names, title), path)


def draw_confusion(predictions: pd.DataFrame, names: pd.DataFrame, title: str) -> Figure:
    """A matrix each for seen and unseen brains; rows are annotated areas and sum to 1.

    Parameters
    ----------
    predictions : DataFrame
        Table `predictions`.
    names : DataFrame
        `index` and `name` of annotated areas.
    """
    splits = [split for split in ("seen_brains", "unseen_brain") if (predictions["split"] == split).any()]
    areas = _most_frequent(predictions)
    left_out = len(np.union1d(predictions["area"], predictions["predicted_area"])) - len(areas)
    if left_out > 0:
        title += f" (the {len(areas)} most frequent areas; {left_out} more are in “others”)"
    edge = 2.2 + 0.155 * len(areas)
    figure = new_figure(title, max(7.0, edge * max(1, len(splits)) + 0.8), edge + 0.8)
    axes = panels(figure, 1, max(1, len(splits)))
    name_of = dict(zip(names["index"].astype(int), names["name"].astype(str), strict=True))
    said = [name_of.get(int(area), str(area)).split(" (")[0] for area in areas]
    drawn = None
    for place, split in zip(axes, splits, strict=False):
        matrix = confusion_shares(predictions[predictions["split"] == split], areas)
        drawn = place.imshow(matrix, cmap="Blues", vmin=0, vmax=1, aspect="equal", interpolation="nearest")
        ticks = np.arange(matrix.shape[1])
        place.set_xticks(ticks, [*said, "others"][: len(ticks)], rotation=90, fontsize=6.5)
        place.set_yticks(np.arange(len(areas)), said, fontsize=6.5)
        place.set(xlabel="predicted area", ylabel="annotated area", title=ROLE_NAMES[split])
    if drawn is not None:
        figure.colorbar(drawn, ax=axes, label="share of the annotated patches", shrink=0.6)
    return figure


def confusion_shares(predictions: pd.DataFrame, areas: np.ndarray) -> np.ndarray:
    """Share of each area's patches that went to each area, and to all others.

    Returns
    -------
    (A, A + 1) array
        Rows sum to 1, or are NaN for areas without patches. The last column is every area that is not in `areas`.
    """
    counts = np.zeros((len(areas), len(areas) + 1))
    known = predictions[predictions["area"].isin(areas)]
    row = np.searchsorted(areas, known["area"])
    column = np.searchsorted(areas, known["predicted_area"]).clip(0, len(areas) - 1)
    column = np.where(areas[column] == known["predicted_area"], column, len(areas))
    np.add.at(counts, (row, column), 1)
    total = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)


def _most_frequent(predictions: pd.DataFrame) -> np.ndarray:
    return np.sort(predictions["area"].value_counts().head(MOST_AREAS).index.to_numpy())
