"""Training curves: loss, learning rate, and what was measured on validation sections."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cytonet_pipeline.reporting.style import PALETTE, new_figure, panels, save

# Column, title, label of the axis.
_CURVES = (
    ("loss", "training loss", "loss"),
    ("learning_rate", "learning rate", "learning rate"),
    ("knn_accuracy", "k-NN accuracy, validation sections", "accuracy"),
    ("accuracy", "training accuracy", "accuracy"),
    ("effective_rank", "effective rank (below 5: collapse)", "dimensions"),
    ("mean_cosine", "mean cosine (above 0.95: collapse)", "cosine"),
    ("same_brain_excess", "same-brain neighbours over chance", "ratio"),
    ("effective_positives", "effective positives per anchor", "patches"),
    ("cross_brain_share", "positive weight between brains", "share"),
    ("dropped_anchors", "anchors without near neighbours", "share"),
    ("alignment", "alignment of positives", "squared distance"),
    ("uniformity", "uniformity", "log potential"),
    ("gradient_norm", "gradient norm", "norm"),
    ("samples_per_second", "speed", "patches per second"),
    ("data_wait_share", "waiting for data", "share of time"),
)
_LIMITS = {"effective_rank": 5.0, "mean_cosine": 0.95, "same_brain_excess": 1.0}
# On a linear axis from 0: a logarithmic one would magnify values close to zero.
_SHARES = frozenset({"dropped_anchors", "data_wait_share"})
_COLUMNS = 4
# Curves with more points are drawn pale, under their running mean over a 25th of the points.
_NOISY = 100
_SMOOTHED = 25
# Above this ratio of the largest to the smallest value the axis is logarithmic.
_WIDE = 30


def training_curves(history: pd.DataFrame, path: Path, title: str = "training") -> Path:
    """Draw table `history` and save the figure."""
    return save(draw_curves(history, title), path)


def draw_curves(history: pd.DataFrame, title: str) -> Figure:
    """Draw a panel for each column of `history` that has values."""
    shown = [curve for curve in _CURVES if curve[0] in history and history[curve[0]].notna().any()]
    columns = min(_COLUMNS, max(1, len(shown)))
    rows = max(1, -(-len(shown) // columns))
    figure = new_figure(f"{title}: {int(history['step'].max()):,} steps", 3.0 * columns, 0.6 + 2.2 * rows)
    axes = panels(figure, rows, columns)
    for place, (column, name, unit) in zip(axes, shown, strict=False):
        known = history.dropna(subset=[column])
        _draw(place, known["step"], known[column], noisy=len(known) > _NOISY and column != "learning_rate")
        if column in _LIMITS:
            place.axhline(_LIMITS[column], color="#999999", linewidth=0.8, linestyle="--")
        if column in _SHARES:
            place.set_ylim(bottom=0)
        elif known[column].min() > 0 and known[column].max() > _WIDE * known[column].min():
            place.set_yscale("log")
        if column == "knn_accuracy":
            name = f"{name}\nbest after step {_mark_best(place, known):,}"
        place.set_title(name, fontsize=9)
        place.set(xlabel="step", ylabel=unit, xlim=(0, history["step"].max() * 1.02))
    for place in axes[len(shown) :]:
        place.set_axis_off()
    return figure


def _draw(place: Axes, steps: pd.Series, values: pd.Series, *, noisy: bool) -> None:
    if not noisy:
        place.plot(steps, values, color=PALETTE[0], marker="o" if len(values) < 15 else "", markersize=3)
        return
    place.plot(steps, values, color=PALETTE[0], alpha=0.3, linewidth=0.6)
    window = max(2, len(values) // _SMOOTHED)
    place.plot(steps, values.rolling(window, center=True, min_periods=1).mean(), color=PALETTE[0])


def _mark_best(place: Axes, known: pd.DataFrame) -> int:
    """Ring the state that `best.safetensors` holds, the first in case of a tie; return its step."""
    best = int(known["knn_accuracy"].argmax())
    step, accuracy = int(known["step"].iloc[best]), float(known["knn_accuracy"].iloc[best])
    place.plot(step, accuracy, "o", color=PALETTE[1], fillstyle="none", markersize=9)
    return step
