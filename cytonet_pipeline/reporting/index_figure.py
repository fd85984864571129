"""The patch index of a brain: where its patches lie, and their roles."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cytonet_pipeline.reporting.style import ROLE_COLORS, ROLE_NAMES, legend, new_figure, panels, save

MAX_POINTS = 20_000
_VIEWS = (("x", "z", "from behind"), ("y", "z", "from the right"), ("x", "y", "from above"))
_ENDS = {"x": "left – right", "y": "posterior – anterior", "z": "inferior – superior"}


def index_figure(index: pd.DataFrame, path: Path) -> Path:
    """Draw a brain's patch index and save the figure."""
    return save(draw_index(index), path)


def draw_index(index: pd.DataFrame) -> Figure:
    """Draw three projections in Colin-27 (mm), coloured by split, and the number of patches per split.

    Parameters
    ----------
    index : DataFrame
        Table `patch_index`, of one or several brains.
    """
    brains = ", ".join(f"sub-{brain}" for brain in sorted(index["brain"].unique())) or "no brain"
    figure = new_figure(f"{brains}: {len(index):,} patches in Colin-27", 10, 7.2)
    axes = panels(figure, 2, 2)
    # The patches with the smallest `order` are a random sample that is the same every time.
    shown = index.nsmallest(MAX_POINTS, "order") if len(index) > MAX_POINTS else index
    colors = shown["split"].map(dict(ROLE_COLORS)).to_numpy()
    for place, (across, up, seen) in zip(axes, _VIEWS, strict=False):
        place.scatter(shown[f"ref_{across}_mm"], shown[f"ref_{up}_mm"], c=colors, s=2.0, linewidths=0)
        place.set(
            aspect="equal", xlabel=f"{across} (mm), {_ENDS[across]}", ylabel=f"{up} (mm), {_ENDS[up]}", title=seen
        )
    _draw_counts(axes[3], index)
    present = [role for role in ROLE_COLORS if (index["split"] == role).any()]
    handles = [
        Line2D([], [], marker="o", linestyle="", color=ROLE_COLORS[role], label=ROLE_NAMES[role]) for role in present
    ]
    legend(figure, handles, ncols=max(1, len(handles)))
    return figure


def _draw_counts(axes: Axes, index: pd.DataFrame) -> None:
    roles = [role for role in ROLE_COLORS if (index["split"] == role).any()]
    counts = np.array([(index["split"] == role).sum() for role in roles])
    annotated = np.array([((index["split"] == role) & (index["annotated_area"] > 0)).sum() for role in roles])
    at = np.arange(len(roles))
    axes.barh(at, counts, color=[ROLE_COLORS[role] for role in roles])
    axes.barh(at, annotated, height=0.35, color="black", alpha=0.55)
    for place, (count, known) in enumerate(zip(counts, annotated, strict=True)):
        axes.text(count, place, f" {count:,} ({known:,} annotated)", va="center", fontsize=8)
    axes.set_yticks(at, [ROLE_NAMES[role] for role in roles])
    axes.set(xlabel="patches (dark: annotated)", title="patches by split", xlim=(0, 1.55 * max(counts, default=1)))
    axes.invert_yaxis()
