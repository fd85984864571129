"""The patch index on disk: `part-*.parquet` in a brain's folder, with its parameters in the files' metadata.

A part holds whole sections, and its metadata what is known of them: each part is complete by itself.
"""

import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.dataset
import pyarrow.parquet

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.store import Store, read_table, require_version, table, unreadable, verified_parts, write_table


def write_index(folder: Path, frame: pd.DataFrame, block_parameters: Mapping[str, Any]) -> None:
    """Write a brain's index as one part.

    Parameters
    ----------
    folder : Path
        The brain's folder; parts of an older index in it are replaced.
    frame : DataFrame
        As returned by `build_index`: its `attrs` go into the metadata too.
    block_parameters : mapping
        The resolved `dataset:` block.
    """
    target = folder / part_name(0, 1)
    write_part(target, frame, {"dataset": dict(block_parameters), **_by_text(frame.attrs)})
    for part in parts_in(folder):
        if part != target:
            part.unlink()


def write_part(path: Path, rows: pd.DataFrame, parameters: Mapping[str, Any]) -> None:
    """Write one part with its parameters."""
    write_table(path, rows, "patch_index", parameters)


def part_name(number: int, count: int) -> str:
    """Return the name of a part. All have as many digits as the last: sorted by name they are in order."""
    return f"part-{number:0{len(str(count - 1))}}.parquet"


def parts_in(folder: Path) -> list[Path]:
    """List the parts in a brain's folder, in order."""
    return sorted(folder.glob("part-*.parquet"))


def read_parts(
    folder: Path, columns: Sequence[str] | None = None, where: pyarrow.dataset.Expression | None = None
) -> pd.DataFrame:
    """Read the index in `folder`; columns and rows as in `read_index`."""
    return read_table(folder, "patch_index", columns=columns, where=where)


def read_index(
    store: Store,
    brain: str,
    columns: Sequence[str] | None = None,
    where: pyarrow.dataset.Expression | None = None,
) -> pd.DataFrame:
    """Read a brain's index.

    Parameters
    ----------
    columns : sequence of str, optional
        Columns to read; default: all.
    where : pyarrow.dataset.Expression, optional
        Rows to keep.

    Raises
    ------
    StoreError
        There is none, it is damaged, or its version is no longer supported.
    """
    return read_parts(_existing_parts(store, brain)[0].parent, columns, where)


def read_index_parameters(store: Store, brain: str) -> dict[str, Any]:
    """Read the parameters of a brain's index: `dataset` (the block), `sections` (by sample), `left_out`.

    See `build_index` for what is recorded of each section.

    Raises
    ------
    StoreError
        There is no index, it is damaged, or its version is no longer supported.
    """
    whole: dict[str, Any] = {}
    for part in _existing_parts(store, brain):
        metadata = read_metadata(part)
        parameters = json.loads(metadata[b"parameters"])
        if "sections" not in parameters:
            raise StoreError(
                f"{part}: holds no parameters.", to_fix=f"rebuild it with: {table('patch_index').rebuilt_by}"
            )
        sections = whole.get("sections", {}) | parameters["sections"]
        left_out = whole.get("left_out", 0) + parameters.get("left_out", 0)
        whole = parameters | {"sections": sections, "left_out": left_out}
    return whole


def read_metadata(part: Path) -> Mapping[bytes, bytes]:
    """Read the metadata of a part.

    Raises
    ------
    StoreError
        It is damaged, or its version is no longer supported.
    """
    try:
        metadata: Mapping[bytes, bytes] = pyarrow.parquet.read_schema(part).metadata
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise unreadable(part, error, "Parquet file") from error
    require_version(part, "patch_index", metadata)
    return metadata


def _by_text(attributes: Mapping[Hashable | None, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in attributes.items()}


def _existing_parts(store: Store, brain: str) -> list[Path]:
    parts = verified_parts(store.patch_index(brain))
    if not parts:
        raise StoreError(
            f"brain {brain}: has no patch index.",
            looked_for=str(store.patch_index(brain) / "part-*.parquet"),
            to_fix=f"build it with: {table('patch_index').rebuilt_by}",
        )
    return parts
