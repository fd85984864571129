"""Confusion matrices of an encoder's probe: predicted against annotated areas."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.evaluation.maps.area_maps import mapped_protocol
from cytonet_pipeline.reporting.style import ROLE_NAMES, new_figure, panels, save
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store, is_drawn, read_table, record_drawings

MAX_AREAS = 40


def probe_figures(encoder: str, settings: Settings, store: Store) -> Mapping[str, Path]:
    """Draw the confusion matrices of the main protocol, if they are not there as they were drawn.

    Returns
    -------
    mapping
        Title and PNG.
    """
    folder = store.linear_probes(encoder, store.current_encoder(encoder).name)
    protocol = mapped_protocol(encoder, settings)
    path = folder / f"confusion_{protocol}.png"
    if not is_drawn(folder, [path]):
        predictions = read_table(folder / protocol / "predictions.parquet", "predictions")
        names = Dataset(settings.data, settings.experiments.dataset).area_names()
        save(draw_confusion(predictions, names, f"{encoder}, {protocol}: confusion of areas"), path)
        record_drawings(folder)
    return {"confusion of areas": path}


def draw_confusion(predictions: pd.DataFrame, names: pd.DataFrame, title: str) -> Figure:
    """Draw one matrix for seen and one for unseen brains; rows are annotated areas and sum to 1.

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
        title += f" (the {len(areas)} most frequent areas; {left_out} others are grouped as “others”)"
    edge = 2.2 + 0.155 * len(areas)
    figure = new_figure(title, max(7.0, edge * max(1, len(splits)) + 0.8), edge + 0.8)
    axes = panels(figure, 1, max(1, len(splits)))
    name_of = dict(zip(names["index"].astype(int), names["name"].astype(str), strict=True))
    labels = [name_of.get(int(area), str(area)).split(" (")[0] for area in areas]
    drawn = None
    for place, split in zip(axes, splits, strict=False):
        matrix = confusion_shares(predictions[predictions["split"] == split], areas)
        drawn = place.imshow(matrix, cmap="Blues", vmin=0, vmax=1, aspect="equal", interpolation="nearest")
        ticks = np.arange(matrix.shape[1])
        place.set_xticks(ticks, [*labels, "others"][: len(ticks)], rotation=90, fontsize=6.5)
        place.set_yticks(np.arange(len(areas)), labels, fontsize=6.5)
        place.set(xlabel="predicted area", ylabel="annotated area", title=ROLE_NAMES[split])
    if drawn is not None:
        figure.colorbar(drawn, ax=axes, label="share of the annotated patches", shrink=0.6)
    return figure


def confusion_shares(predictions: pd.DataFrame, areas: np.ndarray) -> np.ndarray:
    """Return the share of each area's patches that were predicted as each area, and as any other.

    Returns
    -------
    (A, A + 1) array
        Rows sum to 1, or are NaN for areas without patches. The last column is for areas that are not in `areas`.
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
    return np.sort(predictions["area"].value_counts().head(MAX_AREAS).index.to_numpy())
