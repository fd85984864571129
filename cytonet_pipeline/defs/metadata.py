"""Results as Dagster metadata: numbers that become plots, pictures that show on the asset page, schemas of tables.

Dagster has no image type: a picture is Markdown with an embedded PNG under 200 kB, and the file stays in the store.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from cytonet_pipeline.markup import in_markdown
from cytonet_pipeline.store import table

# Figures beside the picture: more would push it off the screen.
_MOST = 10


def numbers(values: Mapping[str, Any], most: int = _MOST) -> dict[str, dg.MetadataValue]:
    """Convert figures by name: the first ones as entries, which Dagster plots over time, all others in one table.

    Numbers are rounded to four digits. Lists and mappings become Markdown, with an entry of their own; what is None,
    not finite or empty is left out.
    """
    known = {name: value for name, value in values.items() if _is_shown(value)}
    nested = {name: value for name, value in known.items() if isinstance(value, (dict, list, tuple))}
    scalars = {name: value for name, value in known.items() if name not in nested}
    entries = {name: _entry(value) for name, value in list(scalars.items())[:most]}
    entries |= {name: dg.MetadataValue.md(_as_list(value)) for name, value in nested.items()}
    further = [dg.TableRecord({"figure": n, "value": str(_rounded(v))}) for n, v in list(scalars.items())[most:]]
    return entries | ({"further figures": dg.MetadataValue.table(further)} if further else {})


def _is_shown(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return value is not None and value not in ("", [], {}, ())


def _entry(value: Any) -> dg.MetadataValue:
    if isinstance(value, bool):
        return dg.MetadataValue.bool(value)
    if isinstance(value, int):
        return dg.MetadataValue.int(value)
    return dg.MetadataValue.float(_rounded(value)) if isinstance(value, float) else dg.MetadataValue.text(str(value))


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _as_list(value: Mapping[str, Any] | Sequence[Any]) -> str:
    if isinstance(value, Mapping):
        return "\n".join(f"* {in_markdown(str(name))}: {_in_one_block(str(_rounded(v)))}" for name, v in value.items())
    return "\n".join(f"* {_in_one_block(str(_rounded(each)))}" for each in value)


def picture_of(path: Path, name: str) -> dict[str, dg.MetadataValue]:
    """Return a picture under `name`, with the path of its file; nothing if there is no such file."""
    from cytonet_pipeline.reporting.markdown import picture

    if not path.exists():
        return {}
    return {name: dg.MetadataValue.md(picture(path)), f"{name} (file)": dg.MetadataValue.path(str(path))}


def columns_of(name: str) -> dict[str, dg.MetadataValue]:
    """Return the columns of a table of the registry, with their meaning.

    A table to open, and no `dagster/column_schema`: its rows would stand above all that is said of a result.
    """
    columns = [
        dg.TableRecord({"column": c.name, "type": c.type, "meaning": c.meaning, "may be empty": c.nullable})
        for c in table(name).columns
    ]
    return {f"columns of {name}": dg.MetadataValue.table(columns)}


def reasons_of(reasons: tuple[str, ...]) -> dict[str, dg.MetadataValue]:
    """Return reasons as a Markdown list; nothing if there are none."""
    if not reasons:
        return {}
    return {"what is wrong": dg.MetadataValue.md("\n".join(f"* {_in_one_block(reason)}" for reason in reasons))}


def _in_one_block(reason: str) -> str:
    first, *rest = reason.splitlines() or [""]
    first = in_markdown(first)
    return first if not rest else first + "\n\n  ```\n  " + "\n  ".join(rest) + "\n  ```"
