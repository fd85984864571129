"""Results as Dagster metadata: numbers that become plots, pictures that show on the asset page, schemas of tables.

Dagster has no image type: a picture is Markdown with an embedded PNG under 200 kB, and the file stays in the store.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from cytonet_pipeline.markup import in_markdown
from cytonet_pipeline.store import table


def numbers(values: Mapping[str, Any]) -> dict[str, dg.MetadataValue]:
    """Convert scalars by name; Dagster plots numbers over time. Nested values become JSON."""
    return {name: _value(value) for name, value in values.items() if value is not None}


def _value(value: Any) -> dg.MetadataValue:
    if isinstance(value, bool):
        return dg.MetadataValue.bool(value)
    if isinstance(value, int):
        return dg.MetadataValue.int(value)
    if isinstance(value, float):
        return dg.MetadataValue.float(value) if math.isfinite(value) else dg.MetadataValue.text(str(value))
    if isinstance(value, (dict, list, tuple)):
        return dg.MetadataValue.json(list(value) if isinstance(value, tuple) else value)
    return dg.MetadataValue.text(str(value))


def picture_of(path: Path, name: str) -> dict[str, dg.MetadataValue]:
    """Return a picture under `name`, with the path of its file; nothing if there is no such file."""
    from cytonet_pipeline.reporting.markdown import picture

    if not path.exists():
        return {}
    return {name: dg.MetadataValue.md(picture(path)), f"{name} (file)": dg.MetadataValue.path(str(path))}


def columns_of(name: str) -> dict[str, dg.MetadataValue]:
    """Return the column schema of a table of the registry, as `dagster/column_schema`."""
    columns = [
        dg.TableColumn(
            c.name, c.type, description=c.meaning, constraints=dg.TableColumnConstraints(c.nullable, c.unique)
        )
        for c in table(name).columns
    ]
    return {"dagster/column_schema": dg.MetadataValue.table_schema(dg.TableSchema(columns))}


def reasons_of(reasons: tuple[str, ...]) -> dict[str, dg.MetadataValue]:
    """Return reasons as a Markdown list; nothing if there are none."""
    if not reasons:
        return {}
    return {"what is wrong": dg.MetadataValue.md("\n".join(f"* {_in_one_block(reason)}" for reason in reasons))}


def _in_one_block(reason: str) -> str:
    first, *rest = reason.splitlines() or [""]
    first = in_markdown(first)
    return first if not rest else first + "\n\n  ```\n  " + "\n  ".join(rest) + "\n  ```"
