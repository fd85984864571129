"""Lay out an encoder's folder before training, and check it afterwards."""

import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytonet_pipeline.errors import TrainingError
from cytonet_pipeline.learning.folder import RESULTS, EncoderFolder, first_weights_name
from cytonet_pipeline.lineage import resolve_training_set
from cytonet_pipeline.settings import TRAINED, WITHOUT_WEIGHTS, DatasetBlock, EncoderBlock, Settings, keys_affecting
from cytonet_pipeline.store import (
    TEMPORARY_PREFIX,
    Store,
    atomic_folder,
    faults_in,
    lock,
    read_record,
    read_table,
    remove_stamp,
    stamp_path,
    write_record,
    write_table,
)

# Ten million rows take minutes to write.
_WAIT_S = 3600.0

_log = logging.getLogger(__name__)


def prepare(settings: Settings, store: Store, encoder: str) -> Path:
    """Lay out the folder of the version that the last training set decided on.

    An existing folder is left as it is, with its checkpoints: the version names what it holds. Before it is trained,
    keys that change how a result is computed and not the result (`workers`) are updated. Files that are not as they
    were written are replaced: see `_repair`.

    Returns
    -------
    Path
        `encoders/<encoder>/<version>` with `config.json`, `training_set.json`, `sections.parquet`, `patches.parquet`.

    Raises
    ------
    TrainingError
        No training set has been decided, or the store has changed since.
    """
    wanted = store.wanted_version(encoder)
    if wanted is None:
        raise _changed(encoder, None, resolve_training_set(encoder, settings, store)[0].version)
    folder = store.encoder(encoder, wanted)
    # Otherwise the second of two runs that start at once would replace the folder with the first one's job in it.
    with lock(folder.parent / f".{wanted}.preparing.lock", f"laying out {encoder}", wait_s=_WAIT_S):
        faulty = {fault.path.name for fault in faults_in(folder, digests=True) if not fault.of_drawing}
        laid_out = (folder / "config.json").exists() or (folder / "encoder.json").exists()
        if laid_out and not faulty:
            if not (folder / "encoder.json").exists():
                _refresh(folder, settings.encoder(encoder))
            return folder
        resolved, patches = resolve_training_set(encoder, settings, store)
        if resolved.version != wanted:
            raise _changed(encoder, wanted, resolved.version)
        block, dataset = settings.encoder(encoder), settings.experiments.dataset
        given = (encoder, wanted, block, dataset, resolved.sections, patches, resolved.record)
        if laid_out:
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=TEMPORARY_PREFIX) as beside:
                write_encoder_folder(Path(beside) / wanted, *given)
                _repair(folder, faulty, Path(beside) / wanted)
        else:
            write_encoder_folder(folder, *given)
    return folder


def _repair(folder: Path, faulty: set[str], fresh: Path) -> None:
    """Replace damaged files of an encoder's folder.

    What training reads is laid out again: the version fixes it, and the weights stay. If a file that training wrote is
    damaged its results are removed: the next training run goes on from the last checkpoint that is there.
    """
    laid_out = {path.name for path in fresh.iterdir()}
    if stamp_path(folder).name in faulty:
        # Nothing says any more whether the other files are as they were written.
        faulty = faulty | laid_out | set(RESULTS)
    remove_stamp(folder)
    for name in sorted(faulty & laid_out):
        _log.warning("%s: not as it was written; laid out again", folder / name)
        (fresh / name).replace(folder / name)
    if of_training := sorted(faulty & set(RESULTS)):
        _log.warning("%s: %s not as written; trained again", folder, ", ".join(of_training))
        # The record first: it says that the others are complete.
        for name in RESULTS:
            (folder / name).unlink(missing_ok=True)


def _changed(encoder: str, wanted: str | None, now: str) -> TrainingError:
    return TrainingError(
        f"encoder {encoder}: the store has changed since its training set was decided "
        f"({wanted or 'never'}; now it would be {now}).",
        to_fix=f"materialise training_set again: cytonet run --encoders {encoder}",
    )


def _refresh(folder: Path, block: EncoderBlock) -> None:
    config = read_record(folder / "config.json")
    now = {key: getattr(block, key) for key in keys_affecting(EncoderBlock, "computation")}
    if {key: config["block"].get(key) for key in now} != now:
        write_record(folder / "config.json", {**config, "block": {**config["block"], **now}})


def write_encoder_folder(
    folder: Path,
    encoder: str,
    version: str,
    block: EncoderBlock,
    dataset: DatasetBlock,
    sections: pd.DataFrame,
    patches: pd.DataFrame,
    record: dict[str, Any],
) -> None:
    """Write everything that training reads, except the scans.

    Parameters
    ----------
    sections, patches : DataFrame
        Tables `training_sections` and `training_patches`.
    record : dict
        Content of `training_set.json`.
    """
    # Rows in the order of their ids: neither sampling nor packing then depends on how the index was read.
    patches = patches.sort_values("patch_id", kind="stable").reset_index(drop=True)
    with atomic_folder(folder) as temporary:
        write_table(temporary / "sections.parquet", sections, "training_sections")
        write_table(temporary / "patches.parquet", patches, "training_patches")
        write_record(temporary / "training_set.json", record)
        config = {
            "encoder": encoder,
            "version": version,
            "block": block.model_dump(mode="json"),
            "dataset": dataset.model_dump(mode="json"),
        }
        if given := record.get("init_from"):
            # A copy: the folder can be moved, and the ancestor deleted.
            config["init_from"] = {key: given[key] for key in ("encoder", "version", "digest", "path")}
            shutil.copyfile(given["path"], temporary / first_weights_name(config))
        write_record(temporary / "config.json", config)


def finish(path: Path) -> dict[str, Any]:
    """Check that training left everything that evaluation needs.

    Returns
    -------
    dict
        `encoder.json`.

    Raises
    ------
    TrainingError
        Training is not finished, its weights cannot be loaded or are not finite, or its history is incomplete.
    """
    folder = EncoderFolder(path)
    if not folder.record.exists():
        raise TrainingError(
            f"{folder.name} {folder.version}: the training is not finished.",
            looked_for=str(folder.record),
            to_fix=f"train it again, it continues from its last checkpoint: cytonet run --encoders {folder.name}",
        )
    if folder.block.method not in WITHOUT_WEIGHTS:
        _require_weights(folder)
    if folder.block.method in TRAINED:
        _require_history(folder)
    return read_record(folder.record)


def _require_weights(folder: EncoderFolder) -> None:
    import torch

    from cytonet_pipeline.learning.backbones.encoders import load_encoder

    encoder = load_encoder(folder.path)
    faulty = [name for name, value in encoder.state_dict().items() if not torch.isfinite(value).all()]
    if faulty:
        raise TrainingError(
            f"{folder.weights}: weights that are not numbers ({', '.join(faulty[:3])}).",
            to_fix="delete the encoder's folder and train again with a lower learning rate",
        )


def _require_history(folder: EncoderFolder) -> None:
    history = read_table(folder.history, "history")
    steps = history["step"].to_numpy()
    if len(steps) == 0 or steps[-1] != folder.block.steps or (np.diff(steps) <= 0).any():
        last = int(steps[-1]) if len(steps) else 0
        raise TrainingError(
            f"{folder.history}: ends at step {last} of {folder.block.steps}.",
            to_fix="delete the encoder's folder and train again",
        )
