"""How a training went: loss, rate, and what was watched on validation sections."""

from pathlib import Path

import pandas as pd
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
    ("effective_positives", "effective positives of an anchor", "patches"),
    ("cross_brain_share", "positive weight between brains", "share"),
    ("dropped_anchors", "anchors without near neighbours", "share"),
    ("alignment", "alignment of positives", "squared distance"),
    ("uniformity", "uniformity", "log potential"),
    ("gradient_norm", "gradient norm", "norm"),
    ("samples_per_second", "speed", "patches a second"),
    ("data_wait_share", "waiting for data", "share of time"),
)
_LIMITS = {"effective_rank": 5.0, "mean_cosine": 0.95, "same_brain_excess": 1.0}
_COLUMNS = 4
# Above this ratio of largest to smallest a logarithmic axis shows more.
_WIDE = 30


def training_curves(history: pd.DataFrame, path: Path, title: str = "training") -> Path:
    """Draw table `history` into a file."""
    return save(draw_curves(history, title), path)


def draw_curves(history: pd.DataFrame, title: str) -> Figure:
    """A panel for each column of `history` that has values."""
    shown = [curve for curve in _CURVES if curve[0] in history and history[curve[0]].notna().any()]
    columns = min(_COLUMNS, max(1, len(shown)))
    rows = max(1, -(-len(shown) // columns))
    figure = new_figure(f"{title}: {int(history['step'].max()):,} steps", 3.0 * columns, 0.6 + 2.2 * rows)
    axes = panels(figure, rows, columns)
    for place, (column, name, unit) in zip(axes, shown, strict=False):
        known = history.dropna(subset=[column])
        marker = "o" if len(known) < 15 else ""
        place.plot(known["step"], known[column], color=PALETTE[0], marker=marker, markersize=3)
        if column in _LIMITS:
            place.axhline(_LIMITS[column], color="#999999", linewidth=0.8, linestyle="--")
        if known[column].min() > 0 and known[column].max() > _WIDE * known[column].min():
            place.set_yscale("log")
        place.set_title(name, fontsize=9)
        place.set(xlabel="step", ylabel=unit)
    for place in axes[len(shown) :]:
        place.set_axis_off()
    return figure
