"""Retrieval as a figure: how far from the place sought each encoder's nearest features lie, between chance and best."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cytonet_pipeline.reporting.metrics_figure import bars_note, draw_rows
from cytonet_pipeline.reporting.style import ROLE_COLORS, legend, new_figure, panels, save
from cytonet_pipeline.scores import RETRIEVAL, retrieval_only

_BOUNDS: Mapping[str, tuple[Literal["--", ":"], str]] = {
    "retrieval_chance_mm": ("--", "chance"),
    "retrieval_best_mm": (":", "best candidates"),
}


def retrieval_figure(metrics: pd.DataFrame, path: Path, marks: Mapping[str, str] | None = None) -> Path | None:
    """Draw the rows of retrieval of table `metrics` and save the figure; None where none has a query."""
    figure = draw_retrieval(metrics, marks)
    return save(figure, path) if figure else None


def draw_retrieval(metrics: pd.DataFrame, marks: Mapping[str, str] | None = None) -> Figure | None:
    """Draw a panel per search with a line per encoder; vertical lines are the bounds, in the colour of the split.

    Bounds are those of the first encoder; with other unseen brains they may differ, as the page of results shows.

    Parameters
    ----------
    marks : mapping, optional
        What stands behind the name of an encoder, where there is something to know.
    """
    rows = retrieval_only(metrics)
    rows = rows[rows["retrieval_mm"].notna()]
    if rows.empty:
        return None
    protocols = list(dict.fromkeys(rows["protocol"]))
    encoders = list(dict.fromkeys(rows["encoder"]))[::-1]
    data = ", ".join(dict.fromkeys(rows["dataset"]))
    title = f"Retrieval without labels: distance to the place sought (data: {data})"
    figure = new_figure(title, 1.8 + 2.9 * len(protocols), 2.1 + 0.3 * len(encoders))
    axes = panels(figure, 1, len(protocols), sharey=True)
    for place, protocol in zip(axes, protocols, strict=True):
        of_protocol = rows[rows["protocol"] == protocol]
        draw_rows(place, of_protocol, encoders, "retrieval_mm")
        _draw_bounds(place, of_protocol)
        place.set(title=protocol.removeprefix(RETRIEVAL).replace("_", " "), xlabel="median distance (mm)")
        place.set_xlim(left=0)
        place.set_yticks(np.arange(len(encoders)), [f"{name}{(marks or {}).get(name, '')}" for name in encoders])
    lines = [Line2D([], [], color="#555555", linestyle=style, label=name) for style, name in _BOUNDS.values()]
    handles = [*axes[0].get_legend_handles_labels()[0], *lines]
    legend(figure, handles, ncols=4, title=bars_note(rows, ["retrieval_mm"]), title_fontsize=8)
    return figure


def _draw_bounds(axes: Axes, rows: pd.DataFrame) -> None:
    for split, of_split in rows.groupby("split", sort=True):
        for column, (style, _) in _BOUNDS.items():
            axes.axvline(float(of_split[column].iloc[0]), color=ROLE_COLORS[str(split)], linestyle=style, linewidth=1.2)
