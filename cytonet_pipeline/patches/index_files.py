"""The patch index on disk: `part-*.parquet` in a brain's folder, with what made it in the files' metadata."""

import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.dataset
import pyarrow.parquet

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.store import Store, read_table, require_version, table, write_table


def write_index(folder: Path, frame: pd.DataFrame, block_parameters: Mapping[str, Any]) -> None:
    """Write a brain's index.

    Parameters
    ----------
    folder : Path
        The brain's folder; parts of an older index in it are replaced.
    frame : DataFrame
        As `build_index` gives it: its `attrs` go into the metadata too.
    block_parameters : mapping
        The resolved `dataset:` block.
    """
    target = folder / "part-0.parquet"
    write_table(target, frame, "patch_index", {"dataset": dict(block_parameters), **_by_text(frame.attrs)})
    for part in _parts(folder):
        if part != target:
            part.unlink()


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
        There is none, or it is of a version that is not read any more.
    """
    frames = [read_table(part, "patch_index", columns=columns, where=where) for part in _existing(store, brain)]
    return pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]


def read_index_parameters(store: Store, brain: str) -> dict[str, Any]:
    """What made a brain's index: `dataset` (the block), `sections` (by sample, see `build_index`), `left_out`.

    Raises
    ------
    StoreError
        There is no index, or it is of a version that is not read any more.
    """
    part = _existing(store, brain)[0]
    metadata = pyarrow.parquet.read_schema(part).metadata
    require_version(part, "patch_index", metadata)
    parameters = json.loads(metadata[b"parameters"])
    if "sections" not in parameters:
        raise StoreError(
            f"{part}: does not say what made it.", to_fix=f"rebuild it with: {table('patch_index').rebuilt_by}"
        )
    return parameters


def _by_text(attributes: Mapping[Hashable | None, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in attributes.items()}


def _existing(store: Store, brain: str) -> list[Path]:
    parts = _parts(store.patch_index(brain))
    if not parts:
        raise StoreError(
            f"brain {brain}: has no patch index.",
            looked_for=str(store.patch_index(brain) / "part-*.parquet"),
            to_fix=f"build it with: {table('patch_index').rebuilt_by}",
        )
    return parts


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))
