"""Reading the small files of a data set: TSV, JSON, and the paths that they name.

Every fault becomes a `DataFault` of one sentence that names the file and the remedy, so that callers can turn it into
the reason of a section or the problem of a brain.
"""

import csv
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cytonet_pipeline.errors import DataFault


def read_tsv(path: Path, required: Sequence[str]) -> pd.DataFrame:
    """Read a TSV as text, with None for `n/a` and empty cells.

    Raises
    ------
    DataFault
        The file cannot be read, is not a table, or lacks one of the `required` columns.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header, *lines = csv.reader(stream, delimiter="\t")
    except (OSError, ValueError, csv.Error) as error:
        raise DataFault(
            f"{path.name} cannot be read as a table ({_first_line(error)}); write it as tab-separated UTF-8 text."
        ) from error
    columns = [column.strip() for column in header]
    missing = [column for column in required if column not in columns]
    if missing or len(set(columns)) < len(columns):
        what = f"has no column {', '.join(missing)}" if missing else "has two columns of one name"
        raise DataFault(f"{path.name} {what}; correct its first line, the columns are separated by tabs.")
    too_long = [number for number, line in enumerate(lines, start=2) if len(line) > len(columns)]
    if too_long:
        raise DataFault(f"{path.name}, line {too_long[0]}: has more cells than there are columns; correct the line.")
    cells = [[_cell(cell) for cell in line] + [None] * (len(columns) - len(line)) for line in lines if line]
    # dtype=object: pandas' own strings would turn None into NaN.
    return pd.DataFrame(cells, columns=columns, dtype=object)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    DataFault
        The file cannot be read or is not a JSON object.
    """
    content = read_json_value(path)
    if not isinstance(content, dict):
        raise DataFault(f"{path.name} is not a JSON object; it must be {{…}} with named values.")
    return content


def read_json_value(path: Path) -> Any:
    """Read JSON of any kind.

    Raises
    ------
    DataFault
        The file cannot be read or is not JSON.
    """
    try:
        # Of 7,000 sidecars opening as text takes longer than reading; newlines as text has them, for the message.
        text = path.read_bytes().decode("utf-8-sig")
        return json.loads(text.replace("\r\n", "\n").replace("\r", "\n"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataFault(f"{path.name} cannot be read as JSON ({_first_line(error)}); correct it.") from error


def find_named(text: str, beside: Path, roots: Sequence[Path]) -> Path:
    """Resolve a path as written in a table or chain, if it lies where paths may lie.

    Parameters
    ----------
    text : str
        Absolute, or relative to `beside`.
    roots : sequence of Path
        Folders below which the result must lie, the data set first. `..` is resolved by name and links are not
        followed: a link inside a root was set deliberately.

    Raises
    ------
    DataFault
        It lies outside of all roots.
    """
    path = Path(os.path.normpath(beside / text))
    if not any(path.is_relative_to(os.path.normpath(root)) for root in roots):
        raise DataFault(
            f"the path {text} leads outside the data set and the allowed roots; add its folder to allowed_roots in the "
            "experiments file, or move the file."
        )
    return path


def find_named_file(text: str, beside: Path, roots: Sequence[Path], *, named_in: str, if_missing: str) -> Path:
    """Resolve a path as `find_named` does, and check that the file exists.

    Parameters
    ----------
    named_in : str
        The place that names the path, for messages about paths outside the roots.
    if_missing : str
        Message if there is no such file.

    Raises
    ------
    DataFault
        It lies outside of all roots, or does not exist.
    """
    try:
        path = find_named(text, beside, roots)
    except DataFault as fault:
        raise DataFault(f"{named_in}: {fault.what}") from None
    if not path.is_file():
        raise DataFault(if_missing)
    return path


def size_and_time(path: Path, *, with_folder: bool = False) -> tuple[int, int]:
    """Return size and modification time (ns) of a file, or of all files in a folder such as OME-Zarr; -1 if absent.

    Parameters
    ----------
    with_folder : bool
        Whether a folder's own entry counts as well.
    """
    try:
        states = [path.stat()]
        if stat.S_ISDIR(states[0].st_mode):
            below = [entry.stat() for entry in path.rglob("*") if entry.is_file()]
            states = states + below if with_folder else below
    except OSError:
        return -1, -1
    return sum(s.st_size for s in states), max((s.st_mtime_ns for s in states), default=-1)


def _cell(text: str) -> str | None:
    return None if text.strip() in ("", "n/a", "N/A") else text.strip()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
