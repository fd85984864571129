"""Figures of the study: macro F1 over labels per area, over steps and patches, and over unseen brains."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from cytonet_pipeline.reporting.style import PALETTE, ROLE_NAMES, new_figure, panels

# Colour, marker and name of each method: the marker alone tells them apart in print.
METHODS: Mapping[str, tuple[str, str, str]] = {
    "cytonet": (PALETTE[0], "o", "CytoNet, probe"),
    "scratch": (PALETTE[1], "s", "from scratch"),
    "supcon": (PALETTE[2], "^", "SupCon"),
    "pretrained": (PALETTE[3], "v", "external encoder, probe"),
    "position": (PALETTE[6], "x", "position only"),
    "random": (PALETTE[5], "d", "random weights, probe"),
    "intensity": (PALETTE[4], "P", "grey statistics, probe"),
}
_SPLITS = ("unseen_brain", "seen_brains")
# Least distance between direct labels, as a share of the axis.
_LABEL_GAP = 0.055


def label_figure(points: pd.DataFrame, title: str) -> Figure:
    """Draw macro F1 over labels per area with bars: a panel per split that has values, a line per method.

    Parameters
    ----------
    points : DataFrame
        As `study_rows.label_efficiency` gives them.
    """
    splits = [split for split in _SPLITS if (points["split"] == split).any()]
    figure = new_figure(title, 1.2 + 4.8 * max(1, len(splits)), 4.4)
    known = sorted({int(labels) for labels in points["labels"] if labels})
    place = {labels: float(labels) for labels in known}
    place[0] = 4.0 * max(known, default=1)
    top = float(points[["value", "high"]].max().max()) if len(points) else 1.0
    for axes, split in zip(panels(figure, 1, max(1, len(splits)), sharey=True), splits, strict=False):
        ends = {}
        for method in METHODS:
            line = points[(points["split"] == split) & (points["method"] == method)]
            if not line.empty:
                ends[method] = _draw_line(axes, line, method, place)
        axes.set_xscale("log")
        axes.set(xlabel="labels per area", title=ROLE_NAMES[split].removeprefix("test, "), ylim=(0, 1.08 * top))
        axes.xaxis.set_major_locator(FixedLocator([place[labels] for labels in (*known, 0)]))
        axes.set_xticklabels([*map(str, known), "all"])
        axes.xaxis.set_minor_locator(NullLocator())
        _name_lines(axes, ends, place[0], 1.08 * top)
    if splits:
        figure.axes[0].set_ylabel("macro F1")
    return figure


def budget_figure(rows: pd.DataFrame, title: str) -> Figure:
    """Draw macro F1 on the unseen brain over steps, a line per number of patches and method, with intervals."""
    figure = new_figure(title, 6.4, 4.2)
    (axes,) = panels(figure, 1, 1)
    ends: dict[str, tuple[float, str]] = {}
    groups = [group for _, group in rows.groupby(["method", "pretrain_samples"]) if len(group) > 1]
    for number, group in enumerate(groups):
        line = group.sort_values("steps")
        method = str(line["method"].iloc[0])
        color, marker = PALETTE[number % len(PALETTE)], METHODS[method][1]
        _bars(axes, line["steps"].to_numpy(float), line, "macro_f1_unseen_brain", color, marker)
        name = f"{METHODS[method][2].partition(',')[0]}, {int(line['pretrain_samples'].iloc[0]):,} patches"
        ends[name] = (float(line["macro_f1_unseen_brain"].iloc[-1]), color)
    axes.set_xscale("log")
    ticks = sorted({int(steps) for group in groups for steps in group["steps"]})
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.set_xticklabels([f"{tick:,}" for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    top = 1.08 * float(rows["macro_f1_unseen_brain"].max())
    axes.set(xlabel="steps of training", ylabel="macro F1, unseen brain", ylim=(0, top))
    _write_names(axes, ends, float(max(ticks, default=1)), top)
    return figure


def brains_figure(wide: pd.DataFrame, title: str) -> Figure:
    """Draw macro F1 on each unseen brain: a column of dots per brain, one per method."""
    figure = new_figure(title, 1.8 + 0.6 * max(4, len(wide)), 3.8)
    (axes,) = panels(figure, 1, 1)
    at = np.arange(len(wide))
    ends = {}
    for method in wide.columns:
        color, marker, name = METHODS[str(method)]
        axes.plot(at, wide[method], marker, color=color, markersize=6)
        axes.axhline(wide[method].median(), color=color, linewidth=1.0, linestyle=":")
        ends[name] = (float(wide[method].median()), color)
    top = 1.1 * float(wide.max().max())
    axes.set(xlabel="unseen brain (dotted: median)", ylabel="macro F1", ylim=(0, top))
    axes.set_xticks(at, [str(brain) for brain in wide.index])
    axes.set_xlim(-0.6, len(wide) - 0.4)
    _write_names(axes, ends, len(wide) - 0.5, top)
    return figure


def _draw_line(axes: Axes, line: pd.DataFrame, method: str, place: Mapping[int, float]) -> tuple[float, str]:
    color, marker, _ = METHODS[method]
    line = line.assign(at=line["labels"].map(lambda labels: place[int(labels)])).sort_values("at")
    renamed = line.rename(columns={"low": "value_low", "high": "value_high"})
    _bars(axes, line["at"].to_numpy(float), renamed, "value", color, marker)
    return float(line["value"].iloc[-1]), color


def _bars(axes: Axes, at: np.ndarray, line: pd.DataFrame, column: str, color: str, marker: str) -> None:
    value = line[column].to_numpy(float)
    before, after = column.partition("_unseen_brain")[:2]
    low, high = (line[f"{before}_{end}{after}"].to_numpy(float) for end in ("low", "high"))
    ends = np.nan_to_num(np.maximum(0, [value - low, high - value]))
    axes.errorbar(
        at, value, yerr=ends, color=color, marker=marker, markersize=5, linewidth=1.5, elinewidth=1.0, capsize=2
    )


def _name_lines(axes: Axes, ends: Mapping[str, tuple[float, str]], right: float, top: float) -> None:
    _write_names(axes, {METHODS[method][2]: end for method, end in ends.items()}, right, top)


def _write_names(axes: Axes, ends: Mapping[str, tuple[float, str]], right: float, top: float) -> None:
    """Write each name beside the end of its line, moved apart where they would overlap."""
    below = -np.inf
    for name, (value, color) in sorted(ends.items(), key=lambda item: item[1][0]):
        height = max(value, below + _LABEL_GAP * top)
        axes.annotate(
            name, (right, height), xytext=(8, 0), textcoords="offset points", color=color, fontsize=8, va="center",
            annotation_clip=False,
        )  # fmt: skip
        below = height
