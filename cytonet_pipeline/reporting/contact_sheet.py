"""All sections of a brain at a glance: what was scanned, what is left out, and why."""

import logging
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cytonet_pipeline.dataset import Brain
from cytonet_pipeline.errors import DataFault
from cytonet_pipeline.histology import open_scan
from cytonet_pipeline.reporting.style import bare, legend, new_figure, panels, save

STATUS_COLORS: Mapping[str, str] = {
    "ok": "#4D4D4D",
    "flagged": "#E69F00",
    "rejected": "#D00000",
    "withdrawn": "#999999",
}
THUMBNAIL_PX = 200
MOST_TILES = 240
_COLUMNS = 8


@dataclass(frozen=True, eq=False)
class Tile:
    """One section: its thumbnail (None if it cannot be opened), status and the reason for it."""

    sample: str
    section: int
    status: str
    reason: str
    image: np.ndarray | None


def contact_sheet(brain: Brain, sections: pd.DataFrame, path: Path) -> Path:
    """Draw the contact sheet of a brain into a file.

    Parameters
    ----------
    sections : DataFrame
        Table `section_scans` of the brain.
    """
    shown = chosen_sections(sections)
    title = f"sub-{brain.name}: {len(sections)} sections"
    if len(shown) < len(sections):
        title += f", {len(shown)} shown"
    return save(draw_contact_sheet(tiles_of(brain, shown), title, Counter(sections["status"])), path)


def chosen_sections(sections: pd.DataFrame, at_most: int = MOST_TILES) -> pd.DataFrame:
    """Sections to show: all that are not ok, and as many of the others, evenly spaced, as there is room for."""
    if len(sections) <= at_most:
        return sections
    ok = np.flatnonzero(sections["status"] == "ok")
    rest = np.flatnonzero(sections["status"] != "ok")[:at_most]
    room = at_most - len(rest)
    spaced = ok[np.unique(np.linspace(0, len(ok) - 1, min(room, len(ok))).round().astype(int))] if room else ok[:0]
    return sections.iloc[np.sort(np.concatenate([rest, spaced]))]


def tiles_of(brain: Brain, sections: pd.DataFrame) -> list[Tile]:
    """Open the scans of the given rows of `section_scans`, each only for its thumbnail."""
    scans = {section.sample: section.scan for section in brain.sections}
    return [
        Tile(
            row["sample"],
            int(row["section"]),
            row["status"],
            row["reason"],
            _thumbnail(scans.get(row["sample"]), row["pixel_um"]),
        )
        for row in sections.to_dict("records")
    ]


def draw_contact_sheet(tiles: Sequence[Tile], title: str, counts: Mapping[str, int] | None = None) -> Figure:
    """Draw one tile a section, outlined in the colour of its status."""
    columns = min(_COLUMNS, max(1, len(tiles)))
    rows = max(1, -(-len(tiles) // columns))
    figure = new_figure(title, max(5.0, 1.55 * columns), 0.9 + 1.6 * rows)
    axes = panels(figure, rows, columns)
    for tile, place in zip(tiles, axes, strict=False):
        _draw_tile(place, tile)
    for place in axes[len(tiles) :]:
        place.set_axis_off()
    counted = counts or Counter(tile.status for tile in tiles)
    handles = [
        Patch(facecolor="none", edgecolor=color, linewidth=2.5, label=f"{status} ({counted[status]})")
        for status, color in STATUS_COLORS.items()
        if counted.get(status)
    ]
    legend(figure, handles, ncols=max(1, len(handles)))
    return figure


def _draw_tile(axes: Axes, tile: Tile) -> None:
    bare(axes)
    color = STATUS_COLORS.get(tile.status, "#4D4D4D")
    if tile.image is not None:
        axes.imshow(tile.image, cmap="gray", vmin=0, vmax=255, alpha=0.35 if tile.status == "withdrawn" else 1.0)
    else:
        axes.text(0.5, 0.6, "no picture", transform=axes.transAxes, ha="center", va="center", color=color)
    for spine in axes.spines.values():
        spine.set(visible=True, color=color, linewidth=1.0 if tile.status == "ok" else 3.0)
    axes.set_title(f"{tile.section}", fontsize=8, pad=2)
    if tile.reason:
        said = textwrap.shorten(tile.reason, 90, placeholder=" …")
        box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1.0}
        text = textwrap.fill(said, 26)
        axes.text(0.5, 0.03, text, transform=axes.transAxes, ha="center", va="bottom", fontsize=5.5, bbox=box)


def _thumbnail(scan: Path | None, pixel_um: float | None) -> np.ndarray | None:
    if scan is None:
        return None
    try:
        with open_scan(scan, None if pixel_um is None or np.isnan(pixel_um) else pixel_um) as opened:
            return opened.thumbnail(THUMBNAIL_PX)
    except (DataFault, OSError) as fault:
        logging.getLogger(__name__).info("no thumbnail of %s: %s", scan, fault)
        return None
