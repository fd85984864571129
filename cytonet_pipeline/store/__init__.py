"""The store: where results lie, how they are written, and what form they have."""

from cytonet_pipeline.store.atomic import TEMPORARY_PREFIX, atomic_file, atomic_folder, beside, write_json, write_text
from cytonet_pipeline.store.contract import Column, Table
from cytonet_pipeline.store.damage import command_for, damaged, mark, remedy_of, unreadable
from cytonet_pipeline.store.digest import as_json, canonical_json, digest_array, digest_bytes, digest_file, digest_of
from cytonet_pipeline.store.integrity import (
    Fault,
    current_inputs,
    digest_of_result,
    faults_in,
    is_current,
    is_drawn,
    is_whole,
    verified,
    verified_parts,
)
from cytonet_pipeline.store.locks import lock
from cytonet_pipeline.store.opening import open_store, require_claim
from cytonet_pipeline.store.paths import Store
from cytonet_pipeline.store.schemas import REFERENCE_MM, ROLES, TABLES, table
from cytonet_pipeline.store.stamps import (
    read_stamp,
    record_drawings,
    remove_stamp,
    restamp,
    stamp_digest,
    stamp_path,
    write_stamp,
)
from cytonet_pipeline.store.tables import (
    read_record,
    read_table,
    require_version,
    schema_metadata,
    to_arrow,
    write_pointer,
    write_record,
    write_table,
)
from cytonet_pipeline.store.takeover import take_over
from cytonet_pipeline.store.verdicts import Verdict, digest_left_in, verdict_on_encoder

__all__ = [
    "REFERENCE_MM",
    "ROLES",
    "TABLES",
    "TEMPORARY_PREFIX",
    "Column",
    "Fault",
    "Store",
    "Table",
    "Verdict",
    "as_json",
    "atomic_file",
    "atomic_folder",
    "beside",
    "canonical_json",
    "command_for",
    "current_inputs",
    "damaged",
    "digest_array",
    "digest_bytes",
    "digest_file",
    "digest_left_in",
    "digest_of",
    "digest_of_result",
    "faults_in",
    "is_current",
    "is_drawn",
    "is_whole",
    "lock",
    "mark",
    "open_store",
    "read_record",
    "read_stamp",
    "read_table",
    "record_drawings",
    "remedy_of",
    "remove_stamp",
    "require_claim",
    "require_version",
    "restamp",
    "schema_metadata",
    "stamp_digest",
    "stamp_path",
    "table",
    "take_over",
    "to_arrow",
    "unreadable",
    "verdict_on_encoder",
    "verified",
    "verified_parts",
    "write_json",
    "write_pointer",
    "write_record",
    "write_stamp",
    "write_table",
    "write_text",
]
