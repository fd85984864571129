"""The UMAP of an encoder as an HTML page: zoom, switch areas and brains, hover for what a patch is."""

import html
import string
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from cytonet_pipeline.reporting.style import UNKNOWN_COLOR
from cytonet_pipeline.reporting.umap_drawings import first_axis
from cytonet_pipeline.store import atomic_file

# Lines shown on hovering over a patch, below the name of its area. Fields are columns of the patch index with a format.
HOVER = (
    "sub-{brain}, section {section}",
    "x {ref_x_mm:.1f}, y {ref_y_mm:.1f}, z {ref_z_mm:.1f} mm",
)
_MARKERS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "star", "hexagon")


def hover_columns() -> list[str]:
    """Return the columns of the patch index that the hover text shows."""
    return [field for line in HOVER for _, field, _, _ in string.Formatter().parse(line) if field]


def write_page(points: pd.DataFrame, names: pd.DataFrame, path: Path, title: str) -> Path:
    """Write an HTML page with the scatter plot, complete in itself: it opens without a network.

    Colour is the area, the marker is the brain; areas can be switched off in the legend.

    Parameters
    ----------
    points : DataFrame
        `umap_1`, `umap_2`, `brain`, `annotated_area`, `ref_y_mm` and `hover_columns`.
    names : DataFrame
        `index`, `name` and `color` of annotated areas.
    """
    page = go.Figure(
        layout={"template": "plotly_white", "title": html.escape(title), "height": 800, "legend_tracegroupgap": 0}
    )
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
    return go.Scattergl(
        x=rows["umap_1"],
        y=rows["umap_2"],
        mode="markers",
        name=f"{html.escape(name)} ({len(rows)})",
        # Plotly reads tags in any text, and placeholders in the template: the name is filled in where it is shown.
        meta=html.escape(name),
        customdata=rows[hover_columns()].map(_escaped).to_numpy(),
        hovertemplate="<br>".join(["%{meta}", *_hover_lines()]) + "<extra></extra>",
        marker={
            "size": 5,
            "opacity": 0.8 if area else 0.4,
            "color": color_of.get(area, "#808080") if area else UNKNOWN_COLOR,
            "symbol": rows["brain"].map(marker_of).to_list(),
        },
    )


def _escaped(value: object) -> object:
    return html.escape(value) if isinstance(value, str) else value


def _hover_lines() -> list[str]:
    """Return `HOVER` in plotly's notation: the nth field is `%{customdata[n]:format}`."""
    lines, n = [], 0
    for line in HOVER:
        parts = []
        for text, field, form, _ in string.Formatter().parse(line):
            parts.append(text)
            if field:
                parts.append(f"%{{customdata[{n}]{':' + form if form else ''}}}")
                n += 1
        lines.append("".join(parts))
    return lines
