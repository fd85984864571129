"""Reading and writing tables and records, with the version of their schema.

Every Parquet file carries `schema_version`, its table's name and whatever parameters made it in the schema's metadata;
every JSON record has a `schema_version`. Readers take the current version and the previous one.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.store.atomic import atomic_file, write_json
from cytonet_pipeline.store.contract import Table
from cytonet_pipeline.store.damage import damaged, remedy_of, unreadable
from cytonet_pipeline.store.digest import as_json, digest_of
from cytonet_pipeline.store.integrity import verified, verified_parts
from cytonet_pipeline.store.schemas import table
from cytonet_pipeline.store.seals import has_lost_seal

if TYPE_CHECKING:
    # Imported where they are used: Dagster's definitions import this module, and load without pandas.
    import pandas as pd
    import pyarrow
    import pyarrow.dataset

RECORD_VERSION = 1


def to_arrow(frame: "pd.DataFrame", name: str, parameters: Mapping[str, Any] | None = None) -> "pyarrow.Table":
    """Check a frame against its contract and return it as an Arrow table with the contract's schema and metadata."""
    import pyarrow

    contract = table(name)
    checked = contract.validate(frame)
    schema = contract.arrow().with_metadata(schema_metadata(contract, parameters))
    return pyarrow.Table.from_pandas(checked[[c.name for c in contract.columns]], schema=schema, preserve_index=False)


def schema_metadata(contract: Table, parameters: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Return the schema metadata of a Parquet file."""
    return {
        "schema_version": str(contract.version),
        "table": contract.name,
        "parameters": json.dumps(dict(parameters or {}), sort_keys=True, default=str),
    }


def write_table(path: Path, frame: "pd.DataFrame", name: str, parameters: Mapping[str, Any] | None = None) -> None:
    """Write one Parquet file of the table `name`, atomically."""
    import pyarrow.parquet

    data = to_arrow(frame, name, parameters)
    with atomic_file(path) as temporary:
        pyarrow.parquet.write_table(data, temporary, compression="zstd")


def read_table(
    path: Path,
    name: str,
    *,
    columns: Sequence[str] | None = None,
    where: "pyarrow.dataset.Expression | None" = None,
    categories: Sequence[str] = (),
) -> "pd.DataFrame":
    """Read a Parquet file, or a folder of parts, of the table `name`.

    Parameters
    ----------
    categories : sequence of str
        Columns to read as pandas categories: a name in ten million rows is then held in memory once.
    where : pyarrow.dataset.Expression, optional
        Rows to keep, pushed down to the files.

    Raises
    ------
    StoreError
        Nothing is there, it is not this table, or its version is no longer read.
    """
    import pyarrow.dataset

    if not path.exists():
        verified(path)
        raise StoreError(f"{path}: not there.", to_fix=remedy_of(path))
    # Hive partitioning stays off: the columns are in the files, and `brain=` folders would add them a second time.
    # Parts are named one by one: pictures and records lie beside them.
    files = verified_parts(path) if path.is_dir() else [verified(path)]
    try:
        source = pyarrow.dataset.dataset([str(file) for file in files], format="parquet", partitioning=None)
        require_version(path, name, source.schema.metadata)
        present = [name for name in columns or source.schema.names if name in source.schema.names]
        data = source.to_table(columns=present if columns else None, filter=where)
        read = data.to_pandas(categories=list(categories))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise _unreadable_part(files, error) from error
    return _with_new_columns(read, name, columns)


def _unreadable_part(files: Sequence[Path], error: Exception) -> StoreError:
    """Return the error for the file that cannot be read: pyarrow's own does not always name it."""
    import pyarrow.parquet

    for file in files:
        try:
            pyarrow.parquet.ParquetFile(file).read()
        except (pyarrow.ArrowException, OSError, ValueError) as found:
            return unreadable(file, found, "Parquet file")
    return unreadable(files[0], error, "Parquet file") if files else StoreError(f"no Parquet file ({error}).")


def _with_new_columns(frame: "pd.DataFrame", name: str, columns: Sequence[str] | None) -> "pd.DataFrame":
    """Add the columns that a table of the previous version lacks, without values."""
    wanted = columns or [column.name for column in table(name).columns]
    if all(column in frame.columns for column in wanted):
        return frame
    known = {column.name for column in table(name).columns if column.nullable}
    missing = [column for column in wanted if column not in frame.columns and column in known]
    return frame.assign(**dict.fromkeys(missing))[list(wanted)]


def require_version(path: Path, name: str, metadata: Mapping[bytes, bytes] | None) -> None:
    """Refuse a file of another table or of a version that is neither the current nor the previous one."""
    contract = table(name)
    found = {key.decode(): value.decode() for key, value in (metadata or {}).items() if key != b"pandas"}
    version = found.get("schema_version", "none")
    if found.get("table", name) != name or version not in {str(contract.version), str(contract.version - 1)}:
        raise StoreError(
            f"{path}: holds table {found.get('table', '?')!r} version {version}; "
            f"this program reads {name!r} version {contract.version}.",
            to_fix=f"rebuild it with: {contract.rebuilt_by}",
        )


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON record with its `schema_version`."""
    write_json(path, {"schema_version": RECORD_VERSION, **record})


def write_pointer(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record that lies beside no stamp with a digest of its own, `seal`: `read_record` compares it."""
    content = as_json({"schema_version": RECORD_VERSION, **record})
    write_json(path, {**content, "seal": digest_of(content)})


def read_record(path: Path) -> dict[str, Any]:
    """Read a JSON record of the current or the previous version.

    Raises
    ------
    StoreError
        It is not there, damaged, not JSON, or of another version.
    """
    try:
        record = json.loads(verified(path).read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise unreadable(path, error, "record") from error
    if not isinstance(record, dict) or record.get("schema_version") not in {RECORD_VERSION, RECORD_VERSION - 1}:
        raise StoreError(f"{path}: not a record that this version reads.", to_fix=remedy_of(path))
    seal = record.pop("seal", None)
    if seal is None and has_lost_seal(path):
        raise damaged(path, "its digest is missing, and other records of this store have theirs")
    if seal not in (None, digest_of(record)):
        raise damaged(path, "its digest is not the one that was recorded")
    return record
