"""What looking at cells adds to position: macro F1 at borders of the atlas, and the errors of position corrected."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cytonet_pipeline.reporting.metrics_figure import bars_note, draw_rows
from cytonet_pipeline.reporting.style import legend, new_figure, panels, save
from cytonet_pipeline.scores import without_retrieval

_COLUMNS = {
    "border_macro_f1": "macro F1 at borders",
    "position_errors_corrected": "share of position's errors corrected",
}


def border_figure(metrics: pd.DataFrame, path: Path, marks: Mapping[str, str] | None = None) -> Path | None:
    """Draw both measures of table `metrics` and save the figure; None where no row has either."""
    figure = draw_borders(metrics, marks)
    return save(figure, path) if figure else None


def draw_borders(metrics: pd.DataFrame, marks: Mapping[str, str] | None = None) -> Figure | None:
    """Draw a row of panels per protocol with all labels, a panel per measure, and a line per encoder.

    Parameters
    ----------
    marks : mapping, optional
        What stands behind the name of an encoder, where there is something to know.
    """
    rows = without_retrieval(metrics)
    rows = rows[(rows["labels_per_area"] == 0) & rows[list(_COLUMNS)].notna().any(axis=1)]
    if rows.empty:
        return None
    protocols = list(dict.fromkeys(rows["protocol"]))
    encoders = list(dict.fromkeys(rows["encoder"]))[::-1]
    data = ", ".join(dict.fromkeys(rows["dataset"]))
    height_in = 1.3 + len(protocols) * (0.8 + 0.3 * len(encoders))
    figure = new_figure(f"At borders of the atlas, and where position errs (data: {data})", 8.0, height_in)
    axes = panels(figure, len(protocols), len(_COLUMNS), sharey=True, sharex=True)
    for number, place in enumerate(axes):
        protocol, column = protocols[number // len(_COLUMNS)], list(_COLUMNS)[number % len(_COLUMNS)]
        draw_rows(place, rows[rows["protocol"] == protocol], encoders, column)
        place.set(xlim=(-0.03, 1.03), xticks=np.linspace(0, 1, 6), xlabel=_COLUMNS[column], title=protocol)
        place.set_yticks(np.arange(len(encoders)), [f"{name}{(marks or {}).get(name, '')}" for name in encoders])
        place.tick_params(labelbottom=True)
    note = bars_note(rows, list(_COLUMNS))
    legend(figure, axes[0].get_legend_handles_labels()[0], ncols=2, title=note, title_fontsize=8)
    return figure
