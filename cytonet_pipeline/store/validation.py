"""Whether a stored table keeps its contract, in bounded memory: its files are read batch by batch.

Of a column whose type alone is promised no value is read. Rows that are there twice are found by 8 bytes per row, a
hash of what names the row; rows of equal hashes are then compared by their values.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.store.contract import Column, Table
from cytonet_pipeline.store.damage import unreadable
from cytonet_pipeline.store.integrity import verified
from cytonet_pipeline.store.schemas import table
from cytonet_pipeline.store.tables import require_version

if TYPE_CHECKING:
    # Imported where they are used: Dagster's definitions import this module, and load without pandas.
    import numpy as np
    import pandas as pd
    import pyarrow

_BATCH_ROWS = 65_536


def count_valid_rows(
    files: Sequence[Path], name: str, identity: Sequence[str] = (), *, batch_rows: int = _BATCH_ROWS
) -> int:
    """Validate the files of one table against its contract, and return how many rows they have.

    Parameters
    ----------
    identity : sequence of str
        Columns that name a row together, where the table has no unique column.
    batch_rows : int
        How many rows are in memory at a time.

    Raises
    ------
    StoreError
        A file cannot be read, is damaged, of another table or version, or breaks the contract; or rows are there twice.
    """
    contract = table(name)
    keys = [[column.name] for column in contract.columns if column.unique] + ([list(identity)] if identity else [])
    hashes: list[list[np.ndarray]] = [[] for _ in keys]
    rows = 0
    for file in files:
        for frame in _valid_batches(file, contract, batch_rows):
            rows += len(frame)
            for key, of_key in zip(keys, hashes, strict=True):
                of_key.append(_hashes(frame, key))
    for key, of_key in zip(keys, hashes, strict=True):
        twice = _rows_there_twice(files, key, of_key, batch_rows)
        if twice:
            raise StoreError(
                f"{files[0].parent}: {twice} rows of the table {name!r} are there twice, by {', '.join(key)}.",
                to_fix=contract.rebuilt_by,
            )
    return rows


def _valid_batches(file: Path, contract: Table, batch_rows: int) -> "Iterator[pd.DataFrame]":
    """Yield the rows of a file, validated, in the columns whose values matter."""
    import pyarrow.parquet

    try:
        schema = pyarrow.parquet.read_schema(verified(file))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise unreadable(file, error, "Parquet file") from error
    require_version(file, contract.name, schema.metadata)
    examined = _columns_to_read(schema, contract)
    # Uniqueness is a matter of all batches.
    columns = tuple(replace(c, unique=False) for c in contract.columns if c.name in examined or _is_missed(c, schema))
    partial = replace(contract, columns=columns)
    # A table without rows has its columns and types, too.
    _validate(file, partial, schema.empty_table().select(examined).to_pandas())
    for frame in _batches(file, examined, batch_rows):
        yield _validate(file, partial, frame)


def _columns_to_read(schema: "pyarrow.Schema", contract: Table) -> list[str]:
    """Return the columns of a file, without those that may hold any value of their type and are of that type."""
    free = {c.name: c.type for c in contract.columns if c.nullable and not (c.unique or c.allowed or _is_bounded(c))}
    types = contract.arrow()
    return [name for name in schema.names if name not in free or schema.field(name).type != types.field(name).type]


def _is_bounded(column: Column) -> bool:
    return column.low is not None or column.high is not None


def _is_missed(column: Column, schema: "pyarrow.Schema") -> bool:
    """Return whether a file lacks a column that it has to have: those that a version added may be missing."""
    return column.name not in schema.names and not column.nullable


def _validate(file: Path, contract: Table, frame: "pd.DataFrame") -> "pd.DataFrame":
    try:
        return contract.validate(frame)
    except StoreError as error:
        raise StoreError(f"{file}: {error.what}", to_fix=contract.rebuilt_by) from error


def _batches(file: Path, columns: Sequence[str], batch_rows: int) -> "Iterator[pd.DataFrame]":
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as source:
            for batch in source.iter_batches(batch_rows, columns=list(columns)):
                yield batch.to_pandas()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise unreadable(file, error, "Parquet file") from error


def _hashes(frame: "pd.DataFrame", key: Sequence[str]) -> "np.ndarray":
    import pandas as pd

    return pd.util.hash_pandas_object(frame[list(key)], index=False).to_numpy()


def _rows_there_twice(
    files: Sequence[Path], key: Sequence[str], hashes: "Sequence[np.ndarray]", batch_rows: int
) -> int:
    """Count rows that repeat an earlier one; equal hashes alone prove nothing."""
    import numpy as np
    import pandas as pd

    every, counts = np.unique(np.concatenate(hashes), return_counts=True) if hashes else (np.empty(0), np.empty(0))
    suspected = every[counts > 1]
    if not len(suspected):
        return 0
    found = [
        frame[np.isin(_hashes(frame, key), suspected)] for file in files for frame in _batches(file, key, batch_rows)
    ]
    return int(pd.concat(found, ignore_index=True).duplicated().sum())
