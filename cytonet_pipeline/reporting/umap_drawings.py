"""The UMAP of an encoder as pictures: by area, by brain, by place; and as a page to look around in."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
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
from cytonet_pipeline.store import REFERENCE_MM, atomic_file

MOST_IN_LEGEND = 24
_MARKERS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "star", "hexagon")


def umap_pictures(points: pd.DataFrame, names: pd.DataFrame, folder: Path, title: str) -> list[Path]:
    """Write `umap_by-area`, `umap_by-brain`, `umap_by-anterior` (PNG and SVG) and `umap.html` into a folder.

    Parameters
    ----------
    points : DataFrame
        `umap_1`, `umap_2`, `brain`, `section`, `annotated_area`, `ref_x_mm`, `ref_y_mm`, `ref_z_mm`.
    names : DataFrame
        `index`, `name` and `color` of annotated areas.

    Returns
    -------
    list of Path
        What was written.
    """
    drawn = {
        "umap_by-area": draw_by_area(points, names, title),
        "umap_by-brain": draw_by_brain(points, title),
        "umap_by-anterior": draw_by_anterior(points, title),
    }
    written = [save(figure, folder / f"{name}.{kind}") for name, figure in drawn.items() for kind in ("png", "svg")]
    return [*written, write_page(points, names, folder / "umap.html", title)]


def draw_by_area(points: pd.DataFrame, names: pd.DataFrame, title: str) -> Figure:
    """Scatter coloured by annotated area, in the atlas's colours; a legend of the most frequent ones."""
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
        for area, n in zip(frequent.index[:MOST_IN_LEGEND], frequent, strict=False)
    ]
    if len(frequent) > MOST_IN_LEGEND:
        handles.append(_handle("none", f"and {len(frequent) - MOST_IN_LEGEND} more areas"))
    if (~known).any():
        handles.append(_handle(UNKNOWN_COLOR, f"not annotated ({(~known).sum()})"))
    legend(figure, handles, "right center", fontsize=7.5)
    return figure


def draw_by_brain(points: pd.DataFrame, title: str) -> Figure:
    """Scatter coloured by brain, and each brain alone beside it."""
    brains = sorted(points["brain"].unique())
    colors = distinct_colors(brains)
    columns = min(5, 1 + len(brains))
    rows = -(-(1 + len(brains)) // columns)
    figure = new_figure(f"{title}, by brain", 3.4 * columns, 0.7 + 3.2 * rows)
    axes = panels(figure, rows, columns)
    # In random order, or the last brain would lie on top of all others.
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
    """Scatter coloured by the position along anterior-posterior in Colin-27."""
    figure, axes = _scatter_figure(f"{title}, by place from posterior to anterior", points, wide=False)
    drawn = _dots(axes, points, c=points["ref_y_mm"], cmap=SEQUENTIAL)
    figure.colorbar(drawn, ax=axes, label="y in Colin-27 (mm), posterior – anterior", shrink=0.8)
    return figure


def write_page(points: pd.DataFrame, names: pd.DataFrame, path: Path, title: str) -> Path:
    """Write an HTML page with the scatter, complete in itself: it opens without a network.

    Colour is the area, the marker is the brain; both can be switched off in the legend. Hovering tells brain, section,
    area and position.
    """
    page = go.Figure(layout={"template": "plotly_white", "title": title, "height": 800, "legend_tracegroupgap": 0})
    name_of = dict(zip(names["index"].astype(int), names["name"], strict=True))
    color_of = dict(zip(names["index"].astype(int), names["color"], strict=True))
    marker_of = {b: _MARKERS[i % len(_MARKERS)] for i, b in enumerate(sorted(points["brain"].unique()))}
    for area, rows in points.groupby("annotated_area", sort=True):
        page.add_trace(_trace(rows, int(str(area)), name_of, color_of, marker_of))
    page.update_xaxes(title=first_axis(points), showticklabels=False)
    page.update_yaxes(title="UMAP 2", showticklabels=False)
    with atomic_file(path) as temporary:
        # A fixed id: otherwise the page differs from run to run.
        page.write_html(temporary, include_plotlyjs=True, full_html=True, div_id="umap")
    return path


def _trace(
    rows: pd.DataFrame,
    area: int,
    name_of: Mapping[int, str],
    color_of: Mapping[int, str],
    marker_of: Mapping[str, str],
) -> go.Scattergl:
    name = name_of.get(area, f"area {area}") if area else "not annotated"
    place = rows[["brain", "section", *REFERENCE_MM]].to_numpy()
    return go.Scattergl(
        x=rows["umap_1"],
        y=rows["umap_2"],
        mode="markers",
        name=f"{name} ({len(rows)})",
        customdata=place,
        hovertemplate=(
            f"{name}<br>sub-%{{customdata[0]}}, section %{{customdata[1]}}<br>"
            "x %{customdata[2]:.1f}, y %{customdata[3]:.1f}, z %{customdata[4]:.1f} mm<extra></extra>"
        ),
        marker={
            "size": 5,
            "opacity": 0.8 if area else 0.4,
            "color": color_of.get(area, "#808080") if area else UNKNOWN_COLOR,
            "symbol": rows["brain"].map(marker_of).to_list(),
        },
    )


def _scatter_figure(title: str, points: pd.DataFrame, *, wide: bool) -> tuple[Figure, Axes]:
    figure = new_figure(title, 9.5 if wide else 7.0, 6.2)
    axes = panels(figure, 1, 1)[0]
    _name_axes(axes, points)
    return figure, axes


def _name_axes(axes: Axes, points: pd.DataFrame) -> None:
    axes.set(xlabel=first_axis(points), ylabel="UMAP 2", xticks=[], yticks=[])


def first_axis(points: pd.DataFrame) -> str:
    """What the first axis is called: its sign is aligned, and the correlation says whether that means anything."""
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
