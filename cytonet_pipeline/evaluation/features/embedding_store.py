"""Features of evaluated patches: computed once per version of an encoder, one Parquet file per brain.

A finished brain has its own stamp: a run that was killed continues with the next brain, and after a change only the
brains whose index changed are embedded again.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.evaluation.features.evaluation_set import evaluation_set
from cytonet_pipeline.evaluation.features.patch_features import features_of
from cytonet_pipeline.progress import Task, task
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import (
    REFERENCE_MM,
    Store,
    atomic_file,
    digest_array,
    is_current,
    remove_stamp,
    unreadable,
    verified_parts,
    write_stamp,
)

TABLE = "patch_embeddings"
# Of the files. Features are computed again when the stage's code version is raised, not this.
SCHEMA_VERSION = 1

_log = logging.getLogger(__name__)


def embed_evaluation_set(encoder: str, settings: Settings, store: Store, code_version: int) -> None:
    """Write the features of every patch that the evaluation needs, in a folder per brain.

    A brain is skipped if its features exist, are of the same patches, and were computed by code of this version.
    """
    version = store.current_encoder(encoder).name
    dataset = Dataset(settings.data, settings.experiments.dataset)
    rows = evaluation_set(store, encoder, version, settings)
    with task(f"embedding patches with {encoder}", total=len(rows)) as progress:
        for brain, of_brain in rows.groupby("brain", sort=True):
            _embed_brain(encoder, version, str(brain), of_brain, dataset, store, code_version, progress)


def read_embeddings(
    store: Store, encoder: str, version: str, brains: Sequence[str] | None = None, dtype: type = np.float32
) -> tuple[np.ndarray, np.ndarray]:
    """Read the features of a version of an encoder.

    Parameters
    ----------
    brains : sequence of str, optional
        Brains to read; default: all that have been embedded.
    dtype : type
        Features are stored as float16; float32 doubles their size in memory.

    Returns
    -------
    patch_ids : (N,) uint64 array
    features : (N, D) array

    Raises
    ------
    StoreError
        The features have not been computed, are damaged, or of a version that is not supported any more.
    """
    folder = store.patch_embeddings(encoder, version)
    if brains is None:
        brains = sorted(p.name.partition("=")[2] for p in folder.glob("brain=*"))
    paths = [path for brain in brains for path in verified_parts(folder / f"brain={brain}")]
    parts = [_read_part(path) for path in paths]
    if not parts:
        raise StoreError(
            f"{folder}: no features{' of ' + ', '.join(brains) if brains else ''}.",
            to_fix=f"cytonet run --encoders {encoder}",
        )
    return np.concatenate([ids for ids, _ in parts]), np.concatenate([f.astype(dtype, copy=False) for _, f in parts])


def write_embeddings(path: Path, patch_ids: np.ndarray, features: np.ndarray, encoder: str, version: str) -> None:
    """Write one Parquet file of `patch_id` and `embedding` (fixed-size list of float16)."""
    width = features.shape[1]
    schema = pyarrow.schema(
        [
            pyarrow.field("patch_id", pyarrow.uint64(), nullable=False),
            pyarrow.field("embedding", pyarrow.list_(pyarrow.float16(), width), nullable=False),
        ],
        metadata={
            "schema_version": str(SCHEMA_VERSION),
            "table": TABLE,
            "parameters": json.dumps({"encoder": encoder, "version": version}, sort_keys=True),
        },
    )
    flat = pyarrow.array(np.ascontiguousarray(features, dtype=np.float16).reshape(-1))
    columns = [
        pyarrow.array(np.asarray(patch_ids, dtype=np.uint64)),
        pyarrow.FixedSizeListArray.from_arrays(flat, width),
    ]
    with atomic_file(path) as temporary:
        pyarrow.parquet.write_table(pyarrow.table(columns, schema=schema), temporary, compression="zstd")


def _embed_brain(
    encoder: str,
    version: str,
    brain: str,
    rows: pd.DataFrame,
    dataset: Dataset,
    store: Store,
    code_version: int,
    progress: Task,
) -> None:
    folder = store.patch_embeddings(encoder, version, brain)
    patches = [digest_array(rows[name].to_numpy()) for name in ("patch_id", *REFERENCE_MM)]
    inputs: dict[str, object] = {"version": version, "patches": patches, "schema_version": code_version}
    if is_current(folder, inputs):
        progress.advance(len(rows))
        return
    _log.info("encoder %s: embedding %d patches of %s", encoder, len(rows), brain)
    # A run that is killed between the features and their stamp leaves features without one.
    remove_stamp(folder)
    features = features_of(store.encoder(encoder, version), rows, dataset.brain(brain), dataset.block, progress.advance)
    write_embeddings(folder / "part-0.parquet", rows["patch_id"].to_numpy(), features, encoder, version)
    write_stamp(folder, inputs)


def _read_part(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        table = pyarrow.parquet.read_table(path, partitioning=None)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise unreadable(path, error, "Parquet file") from error
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    if metadata.get("table") != TABLE or metadata.get("schema_version") not in {
        str(SCHEMA_VERSION),
        str(SCHEMA_VERSION - 1),
    }:
        raise StoreError(f"{path}: not features that this version reads.", to_fix="rebuild it with: cytonet run")
    column = table["embedding"].combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False)
    return table["patch_id"].to_numpy(), values.reshape(len(column), column.type.list_size)
