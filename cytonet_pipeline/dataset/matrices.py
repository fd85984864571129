"""The table that places each section in its brain: 3 × 4 matrices, and in-plane warps.

Faults of single rows are found here. `series` finds sections that are mirrored against their neighbours, and
`registration` reads the warps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cytonet_pipeline.dataset.files import find_named_file, read_tsv
from cytonet_pipeline.errors import DataFault
from cytonet_pipeline.names import bare

COLUMNS = tuple(f"m{row}{column}" for row in range(3) for column in range(4))
# Columns 1 and 2 of a section's matrix are its two edges in the brain, nearly at right angles. No tissue is sheared so
# much that the sine falls below this.
_SMALLEST_SINE = 1e-3


@dataclass(frozen=True, eq=False)
class Placement:
    """The placement of a section in its brain, or why it is not known."""

    matrix: np.ndarray | None = None
    warp: Path | None = None
    warp_origin: Literal["corner", "centre"] = "corner"
    fault: str = ""


def table_path(root: Path, brain: str) -> Path:
    """Return the path of a brain's table of matrices."""
    return root / f"derivatives/registration/sub-{brain}/sub-{brain}_from-scan_to-brain_mode-points_xfm.tsv"


def read_placements(path: Path, roots: Sequence[Path]) -> dict[str, Placement]:
    """Read the placement of every sample in a brain's table.

    Raises
    ------
    DataFault
        There is no such table, or it lacks a column.
    """
    if not path.is_file():
        raise DataFault(f"{path.name} is missing; write one row of 12 numbers a section to {path}.")
    frame = read_tsv(path, ("sample_id", *COLUMNS))
    placements: dict[str, Placement] = {}
    for row in frame.to_dict("records"):
        sample = bare(row["sample_id"] or "", "sample")
        if sample in placements:
            placements[sample] = Placement(fault=f"{path.name} has several rows for sample {sample}; leave one.")
        else:
            placements[sample] = _placement(row, sample, path, roots)
    placements.pop("", None)
    return placements


def _placement(row: dict[Any, Any], sample: str, path: Path, roots: Sequence[Path]) -> Placement:
    try:
        matrix = _matrix(row, sample, path)
        warp = _warp(row.get("warp"), sample, path, roots)
        return Placement(matrix, warp, _origin(row.get("warp_origin"), sample, path))
    except DataFault as fault:
        return Placement(fault=fault.what)


def _matrix(row: dict[Any, Any], sample: str, path: Path) -> np.ndarray:
    try:
        values = np.array([float(row[column]) for column in COLUMNS])
    except (TypeError, ValueError):
        raise DataFault(
            f"{path.name}, sample {sample}: a cell of the matrix is not a number; correct the row."
        ) from None
    if not np.isfinite(values).all():
        raise DataFault(f"{path.name}, sample {sample}: the matrix is not finite; correct the row.")
    matrix = values.reshape(3, 4)
    if is_singular(matrix):
        raise DataFault(
            f"{path.name}, sample {sample}: the matrix is singular (its first two columns are parallel or zero); "
            "correct the row."
        )
    return matrix


def is_singular(matrix: np.ndarray) -> bool:
    """Tell whether columns 1 and 2 of a (3, 4) matrix are parallel or zero, so that the section has no extent."""
    right, down = matrix[:, 0], matrix[:, 1]
    # Plain numbers: of 7,000 matrices NumPy's calls take most of the time of reading a brain.
    lengths = math.hypot(*right.tolist()), math.hypot(*down.tolist())
    if min(lengths) == 0 or not all(map(math.isfinite, lengths)):
        return True
    # Normalised first: products of very large or small columns would over- or underflow.
    (a, b, c), (d, e, f) = (right / lengths[0]).tolist(), (down / lengths[1]).tolist()
    return math.hypot(b * f - c * e, c * d - a * f, a * e - b * d) < _SMALLEST_SINE


def _warp(text: str | None, sample: str, path: Path, roots: Sequence[Path]) -> Path | None:
    if not text:
        return None
    row = f"{path.name}, sample {sample}"
    missing = f"{row}: the warp {text} is not there; put it there or write n/a."
    return find_named_file(text, path.parent, roots, named_in=row, if_missing=missing)


def _origin(text: str | None, sample: str, path: Path) -> Literal["corner", "centre"]:
    if text in (None, "corner"):
        return "corner"
    if text in ("centre", "center"):
        return "centre"
    raise DataFault(f"{path.name}, sample {sample}: warp_origin is {text!r}; write corner or centre.")
