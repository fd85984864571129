"""The table of results as a figure: each encoder and protocol, seen beside unseen brains."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cytonet_pipeline.evaluation.table.few_labels import row_names
from cytonet_pipeline.reporting.style import ROLE_COLORS, ROLE_NAMES, legend, new_figure, panels, save
from cytonet_pipeline.scores import SCORES, without_retrieval

# A longer title would run into that of the next panel.
_LONGEST_TITLE = 34
_MARKERS = {"seen_brains": "o", "unseen_brain": "D"}


def metrics_figure(
    metrics: pd.DataFrame, path: Path, marks: Mapping[str, str] | None = None, score: str = "macro_f1"
) -> Path:
    """Draw one score of table `metrics` and save the figure; see `draw_metrics`."""
    return save(draw_metrics(metrics, marks, score), path)


def draw_metrics(metrics: pd.DataFrame, marks: Mapping[str, str] | None = None, score: str = "macro_f1") -> Figure:
    """Draw a panel per protocol with a line per encoder: dots for seen and unseen brains.

    Bars are the 95 % interval over blocks of sections; where a protocol has several draws of labels, the dot is their
    mean and the bar their standard deviation.

    Parameters
    ----------
    marks : mapping, optional
        What stands behind the name of an encoder, where there is something to know.
    """
    metrics = without_retrieval(metrics)
    # Encoders that differ only in the labels they were trained on have one line.
    metrics = metrics.assign(encoder=row_names(metrics))
    protocols = _protocols(metrics)
    encoders = list(dict.fromkeys(metrics["encoder"]))[::-1]
    columns = min(3, max(1, len(protocols)))
    rows = max(1, -(-len(protocols) // columns))
    data = ", ".join(dict.fromkeys(metrics["dataset"]))
    name = SCORES[score].title
    title = f"{name} by encoder and protocol (data: {data})"
    figure = new_figure(title, 1.8 + 2.9 * columns, 1.3 + rows * (0.8 + 0.3 * len(encoders)))
    axes = panels(figure, rows, columns, sharey=True, sharex=True)
    for place, (protocol, labels) in zip(axes, protocols, strict=False):
        of_protocol = metrics[(metrics["protocol"] == protocol) & (metrics["labels_per_area"] == labels)]
        draw_rows(place, of_protocol, encoders, score)
        place.set(xlim=(-0.03, 1.03), xticks=np.linspace(0, 1, 6))
        place.set_yticks(np.arange(len(encoders)), [f"{name}{(marks or {}).get(name, '')}" for name in encoders])
        place.set_title(_title_of(protocol, labels))
    for place in axes[len(protocols) :]:
        place.set_axis_off()
    for place in axes[max(0, len(protocols) - columns) : len(protocols)]:
        place.set_xlabel(name)
        place.tick_params(labelbottom=True)
    if len(protocols):
        legend(
            figure, axes[0].get_legend_handles_labels()[0], ncols=2, title=bars_note(metrics, [score]), title_fontsize=8
        )
    return figure


def bars_note(rows: pd.DataFrame, scores: Sequence[str]) -> str:
    """Say what the bars of a figure are, and why it has no intervals; `scores` have columns `_low` and `_high`."""
    drawn = rows[rows["labels_per_area"] > 0].groupby(["encoder", "protocol", "labels_per_area", "split"]).size()
    has_intervals = rows[[f"{score}_low" for score in scores]].notna().any(axis=None)
    bars = ["95 % interval over blocks of sections"] if has_intervals else []
    bars += ["standard deviation over draws of labels"] if (drawn > 1).any() else []
    notes = [f"bars: {' or '.join(bars)}"] if bars else []
    return "; ".join([*notes, *([] if has_intervals else ["no intervals: fewer than ten blocks of sections"])])


def _title_of(protocol: str, labels: int) -> str:
    title = f"{protocol}, {labels} labels per area" if labels else protocol
    return title if len(title) <= _LONGEST_TITLE else title.replace(", ", ",\n")


def draw_rows(axes: Axes, rows: pd.DataFrame, encoders: list[str], score: str) -> None:
    """Draw a line per encoder with a dot for seen and one for unseen brains; `score` has columns `_low` and `_high`."""
    for offset, split in ((0.13, "seen_brains"), (-0.13, "unseen_brain")):
        dots = [_dot(rows[(rows["encoder"] == e) & (rows["split"] == split)], score) for e in encoders]
        middle, low, high = np.array(dots, dtype=float).reshape(-1, 3).T
        axes.errorbar(
            middle,
            np.arange(len(encoders)) + offset,
            xerr=np.nan_to_num(np.maximum(0, [middle - low, high - middle])),
            fmt=_MARKERS[split],
            markersize=5,
            color=ROLE_COLORS[split],
            elinewidth=1.2,
            label=ROLE_NAMES[split],
        )
    axes.set(ylim=(-0.6, len(encoders) - 0.4))
    axes.grid(axis="x", color="#E5E5E5", linewidth=0.8)
    axes.set_axisbelow(True)


def _dot(rows: pd.DataFrame, score: str) -> tuple[float, float, float]:
    values = rows[score].dropna()
    if values.empty:
        return np.nan, np.nan, np.nan
    if len(values) > 1:
        return values.mean(), values.mean() - values.std(), values.mean() + values.std()
    low, high = rows.loc[values.index[0], [f"{score}_low", f"{score}_high"]]
    value = values.iloc[0]
    return value, value if pd.isna(low) else low, value if pd.isna(high) else high


def _protocols(metrics: pd.DataFrame) -> list[tuple[str, int]]:
    found = metrics[["protocol", "labels_per_area"]].drop_duplicates()
    return [(str(row["protocol"]), int(row["labels_per_area"])) for row in found.to_dict("records")]
