"""The store: where results lie, how they are written, and what form they have."""

from cytonet_pipeline.store.atomic import atomic_file, atomic_folder, beside, write_json, write_text
from cytonet_pipeline.store.digest import canonical_json, digest_array, digest_bytes, digest_file, digest_of
from cytonet_pipeline.store.locks import lock
from cytonet_pipeline.store.paths import Store, is_current, open_store, read_stamp, write_stamp
from cytonet_pipeline.store.schemas import REFERENCE_MM, ROLES, TABLES, Column, Table, table
from cytonet_pipeline.store.tables import (
    read_record,
    read_table,
    require_version,
    schema_metadata,
    to_arrow,
    write_record,
    write_table,
)
from cytonet_pipeline.store.verdicts import Verdict, digest_left_in

__all__ = [
    "REFERENCE_MM",
    "ROLES",
    "TABLES",
    "Column",
    "Store",
    "Table",
    "Verdict",
    "atomic_file",
    "atomic_folder",
    "beside",
    "canonical_json",
    "digest_array",
    "digest_bytes",
    "digest_file",
    "digest_left_in",
    "digest_of",
    "is_current",
    "lock",
    "open_store",
    "read_record",
    "read_stamp",
    "read_table",
    "require_version",
    "schema_metadata",
    "table",
    "to_arrow",
    "write_json",
    "write_record",
    "write_stamp",
    "write_table",
    "write_text",
]
