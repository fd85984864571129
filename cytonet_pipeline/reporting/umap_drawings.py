"""The UMAP of an encoder as static figures: by area, by brain and by anterior-posterior position."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cytonet_pipeline.reporting.style import (
    PALETTE,
    SEQUENTIAL,
    UNKNOWN_COLOR,
    area_colors,
    distinct_colors,
    legend,
    new_figure,
    panels,
    save,
)

MAX_IN_LEGEND = 24


def umap_pictures(points: pd.DataFrame, names: pd.DataFrame, folder: Path, title: str) -> list[Path]:
    """Write `umap_by-area`, `umap_by-brain` and `umap_by-anterior` (PNG and SVG) into a folder.

    Parameters
    ----------
    points : DataFrame
        `umap_1`, `umap_2`, `brain`, `annotated_area` and `ref_y_mm`.
    names : DataFrame
        `index`, `name` and `color` of annotated areas.

    Returns
    -------
    list of Path
        The files written.
    """
    drawn = {
        "umap_by-area": draw_by_area(points, names, title),
        "umap_by-brain": draw_by_brain(points, title),
        "umap_by-anterior": draw_by_anterior(points, title),
    }
    return [save(figure, folder / f"{name}.{kind}") for name, figure in drawn.items() for kind in ("png", "svg")]


def draw_by_area(points: pd.DataFrame, names: pd.DataFrame, title: str) -> Figure:
    """Draw a scatter plot in the atlas's colours of annotated areas, with a legend of the most frequent ones."""
    colors = area_colors(dict(zip(names["index"], names["color"], strict=True)))
    name_of = dict(zip(names["index"].astype(int), names["name"], strict=True))
    figure, axes = _scatter_figure(f"{title}, by annotated area", points, wide=True)
    known = points["annotated_area"] > 0
    _dots(axes, points[~known], color=UNKNOWN_COLOR, zorder=1)
    shown = points[known]
    _dots(axes, shown, color=[colors.get(int(a), (0.5, 0.5, 0.5)) for a in shown["annotated_area"]], zorder=2)
    frequent = shown["annotated_area"].value_counts()
    handles = [
        _handle(colors.get(int(area), (0.5, 0.5, 0.5)), f"{_short(name_of.get(int(area), str(area)))} ({n})")
        for area, n in zip(frequent.index[:MAX_IN_LEGEND], frequent, strict=False)
    ]
    if len(frequent) > MAX_IN_LEGEND:
        handles.append(_handle("none", f"and {len(frequent) - MAX_IN_LEGEND} more areas"))
    if (~known).any():
        handles.append(_handle(UNKNOWN_COLOR, f"not annotated ({(~known).sum()})"))
    legend(figure, handles, "right center", fontsize=7.5)
    return figure


def draw_by_brain(points: pd.DataFrame, title: str) -> Figure:
    """Draw a scatter plot coloured by brain, and one panel per brain beside it."""
    brains = sorted(points["brain"].unique())
    colors = distinct_colors(brains)
    columns = min(5, 1 + len(brains))
    rows = -(-(1 + len(brains)) // columns)
    figure = new_figure(f"{title}, by brain", 3.4 * columns, 0.7 + 3.2 * rows)
    axes = panels(figure, rows, columns)
    # In random order: otherwise the last brain would cover all others.
    mixed = points.sample(frac=1, random_state=0)
    _dots(axes[0], mixed, color=mixed["brain"].map(colors).to_list())
    axes[0].set_title("all")
    for place, brain in zip(axes[1:], brains, strict=False):
        of_brain = points["brain"] == brain
        _dots(place, points[~of_brain], color=UNKNOWN_COLOR)
        _dots(place, points[of_brain], color=colors[brain])
        place.set_title(f"sub-{brain} ({of_brain.sum()})", color=colors[brain])
    for place in axes[: 1 + len(brains)]:
        _name_axes(place, points)
    for place in axes[1 + len(brains) :]:
        place.set_axis_off()
    return figure


def draw_by_anterior(points: pd.DataFrame, title: str) -> Figure:
    """Draw a scatter plot coloured by the anterior-posterior position in Colin-27."""
    figure, axes = _scatter_figure(f"{title}, by anterior-posterior position", points, wide=False)
    drawn = _dots(axes, points, c=points["ref_y_mm"], cmap=SEQUENTIAL)
    figure.colorbar(drawn, ax=axes, label="y in Colin-27 (mm), posterior – anterior", shrink=0.8)
    return figure


def _scatter_figure(title: str, points: pd.DataFrame, *, wide: bool) -> tuple[Figure, Axes]:
    figure = new_figure(title, 9.5 if wide else 7.0, 6.2)
    axes = panels(figure, 1, 1)[0]
    _name_axes(axes, points)
    return figure, axes


def _name_axes(axes: Axes, points: pd.DataFrame) -> None:
    axes.set(xlabel=first_axis(points), ylabel="UMAP 2", xticks=[], yticks=[])


def first_axis(points: pd.DataFrame) -> str:
    """Return the label of the first axis, with the correlation that shows whether its aligned sign means anything."""
    correlation = points["umap_1"].corr(points["ref_y_mm"]) if len(points) > 1 else 0.0
    return f"UMAP 1 (r = {correlation:.2f} with anterior)"


def _dots(axes: Axes, points: pd.DataFrame, **options: Any) -> PathCollection:
    size = float(np.clip(12_000 / max(1, len(points)), 2.0, 14.0))
    return axes.scatter(points["umap_1"], points["umap_2"], s=size, linewidths=0, rasterized=True, **options)


def _handle(color: Any, label: str) -> Line2D:
    marker = "" if color == "none" else "o"
    return Line2D([], [], marker=marker, linestyle="", color=PALETTE[6] if color == "none" else color, label=label)


def _short(name: str) -> str:
    return textwrap.shorten(name, 32, placeholder="…")
