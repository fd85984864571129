"""Cells and rows of the tables in the page of results."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from cytonet_pipeline.markup import in_markdown

# Short names of the splits.
SPLITS = {"seen_brains": "seen", "unseen_brain": "unseen"}


def with_interval(row: Mapping[Hashable, Any], name: str, *, wide: bool = True, digits: int = 3) -> str:
    """Return a value of a row, with its interval if it has one and there is room; a dash where it is missing."""
    value, low, high = (float(row[column]) for column in (name, f"{name}_low", f"{name}_high"))
    if np.isnan(value):
        return "–"
    shown = f"{value:.{digits}f}"
    return f"{shown} [{low:.{digits}f}–{high:.{digits}f}]" if wide and not np.isnan(low) else shown


def number(value: Any, digits: int = 0) -> str:
    """Return a number, a dash where it is missing."""
    return "–" if pd.isna(value) else f"{value:.{digits}f}"


def markdown_rows(rows: pd.DataFrame) -> str:
    """Return rows of text as a table in Markdown."""
    if rows.empty:
        return "(no rows yet)"
    cells = [list(map(str, rows.columns)), *(list(map(str, row)) for row in rows.itertuples(index=False))]
    cells = [[in_markdown(cell) for cell in line] for line in cells]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])
