"""The style that all figures share, and writing figures to files.

Figures are `matplotlib.figure.Figure` objects without pyplot: nothing global, safe in any process. Colours that the
atlas does not define are Okabe and Ito's, which can be told apart with any colour vision.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text

from cytonet_pipeline.store import atomic_file

# Okabe & Ito (2008), https://jfly.uni-koeln.de/color/ ; yellow last: it is weak on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
ROLE_COLORS: Mapping[str, str] = {
    "train": "#0072B2",
    "validation": "#009E73",
    "gap": "#B8B8B8",
    "seen_brains": "#E69F00",
    "unseen_brain": "#CC79A7",
}
ROLE_NAMES: Mapping[str, str] = {
    "train": "train",
    "validation": "validation",
    "gap": "gap (not used)",
    "seen_brains": "test, seen brains",
    "unseen_brain": "test, unseen brain",
}
UNKNOWN_COLOR = "#D9D9D9"
SEQUENTIAL = "viridis"

_RC: Any = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "cytonet",  # otherwise ids in an SVG differ from run to run
}


def new_figure(title: str, width_in: float, height_in: float) -> Figure:
    """Return an empty figure in the package's style, with a title and constrained layout."""
    with rc_context(_RC):
        layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06)
        figure = Figure(figsize=(width_in, height_in), layout=layout)
        figure.suptitle(textwrap.fill(title, max(20, int(width_in * 11))), fontsize=11, fontweight="bold")
    return figure


def panels(figure: Figure, rows: int, columns: int, **options: Any) -> list[Axes]:
    """Return `rows` × `columns` axes in the package's style, row by row."""
    with rc_context(_RC):
        return list(np.ravel(figure.subplots(rows, columns, squeeze=False, **options)))


def legend(figure: Figure, handles: Sequence[Any], where: str = "lower center", **options: Any) -> None:
    """Put a legend outside all axes; do nothing without handles."""
    if handles:
        figure.legend(handles=handles, loc=f"outside {where}", frameon=False, **options)  # type: ignore[call-overload]


def bare(axes: Axes) -> None:
    """Remove ticks and frame, for images."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def save(figure: Figure, path: Path, dpi: int = 150) -> Path:
    """Write a figure in one piece, in the format of the suffix of `path`. The same figure gives the same bytes."""
    kind = path.suffix.lstrip(".")
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    # Half the time of the default for files a tenth larger.
    options: dict[str, Any] = {"pil_kwargs": {"compress_level": 3}} if kind == "png" else {}
    with atomic_file(path) as temporary, rc_context(_RC):
        without_mathtext(figure).savefig(temporary, dpi=dpi, format=kind, metadata=metadata, **options)
    return path


def without_mathtext(figure: Figure) -> Figure:
    """Let a figure show dollar signs as they are: names of areas and brains are no formulas; return the figure.

    Ticks of logarithmic axes, whose powers are set as formulas, stay as they are.
    """
    powers = {
        label
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        if axis.get_scale() == "log"
        for label in (*axis.get_ticklabels(), *axis.get_ticklabels(minor=True))
    }
    for text in figure.findobj(Text):
        if text not in powers:
            text.set_parse_math(False)
    return figure


def distinct_colors(names: Sequence[str]) -> dict[str, str]:
    """Return colours for a handful of categories, in their order; from the ninth on they repeat."""
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)}


def area_colors(areas: Mapping[int, str], fallback: str = UNKNOWN_COLOR) -> dict[int, tuple[float, float, float]]:
    """Return colours of areas as RGB, 0 to 1, from `#rrggbb`; a missing or malformed one becomes grey."""
    colors = {}
    for area, color in areas.items():
        try:
            colors[int(area)] = to_rgb(color)
        except (ValueError, TypeError):
            colors[int(area)] = to_rgb(fallback)
    return colors


def paint(labels: np.ndarray, colors: Mapping[int, tuple[float, float, float]], alpha: float = 1.0) -> np.ndarray:
    """Turn a label image into RGBA: 0 is transparent, labels without a colour are grey.

    Parameters
    ----------
    labels : (...) integer array

    Returns
    -------
    (..., 4) float32 array
    """
    ids, inverse = np.unique(labels, return_inverse=True)
    table = np.array([(*colors.get(int(i), to_rgb(UNKNOWN_COLOR)), 0.0 if i == 0 else alpha) for i in ids])
    return table[inverse.reshape(labels.shape)].astype(np.float32)
