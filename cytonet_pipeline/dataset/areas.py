"""The areas that annotations may name: `derivatives/annotation/desc-areas_dseg.tsv`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cytonet_pipeline.dataset.files import read_tsv
from cytonet_pipeline.errors import DataFault

LARGEST_INDEX = 2**31 - 1
_TYPES = {"index": "int64", "name": "str", "color": "str"}


@dataclass(frozen=True)
class Areas:
    """The numbers that the table lists, and the number of each name that occurs only once."""

    numbers: frozenset[int]
    by_name: Mapping[str, int]


def area_table_path(root: Path) -> Path:
    """Return the path of a data set's table of areas."""
    return root / "derivatives/annotation/desc-areas_dseg.tsv"


def read_area_table(root: Path) -> pd.DataFrame:
    """Read what the annotations' numbers mean: `index`, `name`, `color`; no rows without the file.

    Raises
    ------
    DataFault
        The table cannot be read, or an index is no whole number or occurs twice.
    """
    path = area_table_path(root)
    if not path.is_file():
        return pd.DataFrame({"index": [], "name": [], "color": []}, dtype=object).astype(_TYPES)
    frame = read_tsv(path, ("index", "name"))
    frame["index"] = pd.to_numeric(frame["index"], errors="coerce")
    if frame["index"].isna().any() or frame["index"].duplicated().any():
        raise DataFault(f"{path}: an index is no number or stands there twice.", to_fix="number each area once")
    odd = frame["index"][(frame["index"] % 1 != 0) | ~frame["index"].between(0, LARGEST_INDEX)]
    if len(odd):
        raise DataFault(
            f"{path}: the index {odd.iloc[0]:g} is no whole number from 1.", to_fix="number the areas from 1"
        )
    color = frame["color"].fillna("#808080") if "color" in frame else "#808080"
    named = frame.assign(color=color, name=frame["name"].fillna(frame["index"].astype(str)))
    return named[["index", "name", "color"]].astype(_TYPES)


def read_areas(root: Path) -> Areas | None:
    """Read the areas of a data set; None without a table.

    Raises
    ------
    DataFault
        As `read_area_table`.
    """
    if not area_table_path(root).is_file():
        return None
    table = read_area_table(root)
    numbers = [int(number) for number in table["index"]]
    once = ~table["name"].duplicated(keep=False)
    by_name = {str(name): int(number) for name, number in zip(table["name"][once], table["index"][once], strict=True)}
    return Areas(frozenset(numbers), by_name)
