"""Figures of predicted areas: beside the annotation on sections, and as slices of the label volume."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cytonet_pipeline.registration import ReferenceSpace
from cytonet_pipeline.reporting.slices import Frame, cut, name_ends, scale_bar, show
from cytonet_pipeline.reporting.style import area_colors, bare, legend, new_figure, paint, panels, save

_SLICES = 6
_MAX_IN_LEGEND = 18


def section_overlay(
    rows: pd.DataFrame, thumbnail: np.ndarray, size_mm: tuple[float, float], names: pd.DataFrame, path: Path, title: str
) -> Path:
    """Draw the predictions on one section and save the figure; see `draw_section`."""
    return save(draw_section(rows, thumbnail, size_mm, names, title), path, dpi=110)


def draw_section(
    rows: pd.DataFrame, thumbnail: np.ndarray, size_mm: tuple[float, float], names: pd.DataFrame, title: str
) -> Figure:
    """Draw annotated areas, predicted areas and the probability of the prediction over one section.

    Parameters
    ----------
    rows : DataFrame
        Grid points of the section: `x_mm`, `y_mm` (scan plane), `annotated_area`, `predicted_area`, `probability`,
        `hemisphere`.
    thumbnail : (H, W) uint8 array
        The section's whole field of view.
    size_mm : (float, float)
        Width and height of the field of view.
    """
    colors = area_colors(dict(zip(names["index"], names["color"], strict=True)))
    height_in = 1.3 + min(5.0, 3.6 * size_mm[1] / size_mm[0])
    figure = new_figure(title, 11, height_in)
    axes = panels(figure, 1, 3)
    annotated = rows[rows["annotated_area"] > 0]
    size_pt2 = _dot_size(rows, size_mm, width_in=3.4)
    for place, points, column, name in (
        (axes[0], annotated, "annotated_area", "annotated" if len(annotated) else "not annotated"),
        (axes[1], rows, "predicted_area", _prediction_title(annotated)),
    ):
        _background(place, thumbnail, size_mm)
        shades = [colors.get(int(area), (0.5, 0.5, 0.5)) for area in points[column]]
        place.scatter(points["x_mm"], points["y_mm"], c=shades, s=size_pt2, marker="s", linewidths=0, alpha=0.85)
        place.set_title(name)
    _background(axes[2], thumbnail, size_mm)
    drawn = axes[2].scatter(
        rows["x_mm"], rows["y_mm"], c=rows["probability"], s=size_pt2, marker="s", linewidths=0, vmin=0, vmax=1
    )
    axes[2].set_title("probability of the predicted area")
    figure.colorbar(drawn, ax=axes[2], shrink=0.7)
    for place in axes:
        _name_hemispheres(place, rows, size_mm)
    _legend(figure, rows, names, colors)
    return figure


def volume_figure(
    reference: ReferenceSpace, labels: np.ndarray, probability: np.ndarray, affine: np.ndarray, path: Path, title: str
) -> Path:
    """Draw coronal slices of a label volume over the template and save the figure."""
    return save(draw_volume(reference, labels, probability, affine, title), path)


def draw_volume(
    reference: ReferenceSpace, labels: np.ndarray, probability: np.ndarray, affine: np.ndarray, title: str
) -> Figure:
    """Draw coronal slices from posterior to anterior: labels above, their probability below."""
    t1w, t1w_affine = reference.t1w()
    table = reference.atlas_labels
    colors = area_colors(dict(zip(table["index"], table["color"], strict=True)))
    frame = Frame.around(*reference.atlas(), margin_mm=8.0)
    figure = new_figure(title, 12, 4.6)
    axes = panels(figure, 2, _SLICES)
    drawn = None
    for place, at_mm in enumerate(_filled_slices(labels, affine)):
        template = cut(t1w, t1w_affine, "coronal", at_mm, frame)
        ids = cut(labels, affine, "coronal", at_mm, frame, labels=True)
        certainty = cut(probability, affine, "coronal", at_mm, frame, labels=True)
        above, below = axes[place], axes[_SLICES + place]
        for axis in (above, below):
            show(axis, template, "coronal", frame, cmap="gray")
            name_ends(axis, "coronal")
        show(above, paint(ids, colors, 0.8), "coronal", frame)
        drawn = below.imshow(
            np.ma.masked_equal(certainty, 0),
            origin="lower",
            extent=frame.extent("coronal"),
            vmin=0,
            vmax=1,
            cmap="viridis",
        )
        above.set_title(f"y = {at_mm:.0f} mm", fontsize=9)
    for axis in axes:
        if not axis.images:
            axis.set_axis_off()
    if drawn is None:
        axes[0].text(0, 0.5, "no voxel of the cortex has a prediction", fontsize=9).set_in_layout(False)
    else:
        scale_bar(axes[0], frame, "coronal")
        figure.colorbar(drawn, ax=axes[_SLICES:], label="probability", shrink=0.8)
    return figure


def _filled_slices(labels: np.ndarray, affine: np.ndarray) -> list[float]:
    """Choose coronal positions (mm) with many labels.

    The range with labels is cut into equal parts; of the middle half of each, the plane with the most labels is taken.
    """
    # Volumes of this pipeline lie along the axes of RAS; the second voxel axis is anterior-posterior.
    counts = (labels > 0).sum(axis=(0, 2))
    filled = np.flatnonzero(counts)
    if len(filled) == 0:
        return []
    parts = np.array_split(np.arange(filled[0], filled[-1] + 1), _SLICES)
    middles = [part[len(part) // 4 : len(part) - len(part) // 4] for part in parts if len(part)]
    planes = [int(part[counts[part].argmax()]) for part in middles]
    return [float(affine[1, 1] * plane + affine[1, 3]) for plane in planes]


def _background(axes: Axes, thumbnail: np.ndarray, size_mm: tuple[float, float]) -> None:
    axes.imshow(thumbnail, cmap="gray", vmin=0, vmax=255, extent=(0, size_mm[0], size_mm[1], 0))
    bare(axes)
    x, y = size_mm[0] * 0.97, size_mm[1] * 0.97
    axes.plot([x - 10, x], [y, y], color="black", linewidth=2, solid_capstyle="butt")
    axes.text(x - 5, y - 1, "10 mm", ha="center", va="bottom", fontsize=7)


def _name_hemispheres(axes: Axes, rows: pd.DataFrame, size_mm: tuple[float, float]) -> None:
    """Write L and R on the side of each hemisphere's points: a scan may be mounted either way round."""
    middles = rows.groupby("hemisphere")["x_mm"].mean()
    for side, x_mm in middles.items():
        left_half = x_mm < (middles.mean() if len(middles) > 1 else size_mm[0] / 2)
        where, ha = (0.02, "left") if left_half else (0.98, "right")
        axes.text(where, 0.97, str(side), transform=axes.transAxes, ha=ha, va="top", fontweight="bold")


def _dot_size(rows: pd.DataFrame, size_mm: tuple[float, float], width_in: float) -> float:
    """Return the area, in points², of squares as wide as the grid's spacing."""
    spacing_mm = float(np.diff(np.unique(rows["x_mm"])).min(initial=size_mm[0])) if len(rows) > 1 else 1.0
    return float(np.clip((spacing_mm / size_mm[0] * width_in * 72) ** 2, 1.0, 150.0))


def _prediction_title(annotated: pd.DataFrame) -> str:
    if annotated.empty:
        return "predicted"
    share = (annotated["annotated_area"] == annotated["predicted_area"]).mean()
    return f"predicted ({share:.0%} as annotated)"


def _legend(
    figure: Figure, rows: pd.DataFrame, names: pd.DataFrame, colors: Mapping[int, tuple[float, float, float]]
) -> None:
    name_of = dict(zip(names["index"].astype(int), names["name"].astype(str), strict=True))
    frequent = pd.concat([rows["annotated_area"], rows["predicted_area"]]).value_counts().drop(0, errors="ignore")
    handles = [
        Line2D(
            [], [], marker="s", linestyle="", color=colors.get(int(a), (0.5, 0.5, 0.5)), label=_short(name_of, int(a))
        )
        for a in frequent.head(_MAX_IN_LEGEND).index
    ]
    if len(frequent) > _MAX_IN_LEGEND:
        rest = f"and {len(frequent) - _MAX_IN_LEGEND} more"
        handles.append(Line2D([], [], linestyle="", label=rest))
    legend(figure, handles, ncols=6, fontsize=7)


def _short(name_of: Mapping[int, str], area: int) -> str:
    name = name_of.get(area, str(area))
    return name if len(name) <= 26 else name[:25] + "…"
