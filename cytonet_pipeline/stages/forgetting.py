"""Taking a brain out of the store for good: what would go, doing it, and the way back.

The record that the brain was forgotten is written first, so that from then on nothing takes it in again, and marked
finished last: a run that is killed in between is continued by the next one.
"""

import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from cytonet_pipeline.errors import ConfigurationError, StoreError, TrainingError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages.holdings import (
    Holding,
    Weights,
    holdings,
    unfinished_training_runs,
    weights_that_saw,
)
from cytonet_pipeline.stages.stage import store_of
from cytonet_pipeline.store import Store, atomic_file, lock
from cytonet_pipeline.store.atomic import TEMPORARY_PREFIX
from cytonet_pipeline.store.decisions import Forgotten, forgotten_brains, now, write_forgotten
from cytonet_pipeline.store.stamps import FileRecord, Stamp, full_stamp, record_of

# What is found again after the first pass was written meanwhile, by a run that should not have been at work.
_PASSES = 3


@dataclass(frozen=True)
class Plan:
    """What forgetting a brain would delete, and what rests on it.

    Attributes
    ----------
    brain : str
    holdings : tuple of Holding
        To be deleted.
    weights : tuple of Weights
        Encoders whose weights saw the brain; they are among the holdings only on request.
    """

    brain: str
    holdings: tuple[Holding, ...]
    weights: tuple[Weights, ...]


def plan_to_forget(settings: Settings, brain: str, *, with_weights: bool = False) -> Plan:
    """Find what forgetting a brain would delete; nothing is changed."""
    store = store_of(settings)
    found = holdings(store, brain, with_weights=with_weights)
    return Plan(brain, tuple(found), tuple(weights_that_saw(store, brain)))


def forget(
    settings: Settings,
    brain: str,
    by: str,
    *,
    with_weights: bool = False,
    report: Callable[[Holding], None] = lambda holding: None,
) -> Forgotten:
    """Delete everything that the store holds of a brain, and record that it was forgotten.

    Parameters
    ----------
    by : str
        Who decides; goes into the record.
    with_weights : bool
        Also delete the encoders whose weights saw it.
    report : callable
        Called with each holding after it was deleted.

    Raises
    ------
    TrainingError
        A training run that lists the brain is at work.
    StoreError
        Something cannot be deleted, or is written again all the time; the same command goes on.
    """
    store = store_of(settings)
    _require_no_training_run(settings, store, brain)
    with lock(store.root / "forgotten" / ".lock", f"forgetting {brain}"):
        before = forgotten_brains(store).get(brain)
        record = replace(before or Forgotten(brain, by, now()), finished=False)
        write_forgotten(store, record)
        for _ in range(_PASSES):
            found = holdings(store, brain, with_weights=with_weights)
            for holding in found:
                _delete(holding, brain)
                report(holding)
            if not found:
                break
        else:
            raise _still_written(brain, found)
        kept = tuple(weights.label for weights in weights_that_saw(store, brain))
        record = replace(record, finished=True, weights=kept)
        write_forgotten(store, record)
    return record


def readmit(settings: Settings, brain: str, by: str) -> Forgotten:
    """Let a forgotten brain be ingested again; its data come from the data set, nothing is restored.

    Raises
    ------
    ConfigurationError
        It was not forgotten.
    """
    store = store_of(settings)
    forgotten = forgotten_brains(store)
    if brain not in forgotten:
        raise ConfigurationError(
            f"sub-{brain} has not been forgotten; there is nothing to undo.",
            looked_for=str(store.root / "forgotten"),
            to_fix=f"forgotten are: {', '.join(forgotten) or 'none'}",
        )
    record = replace(forgotten[brain], readmitted=f"{now()} by {by}")
    write_forgotten(store, record)
    return record


def _delete(holding: Holding, brain: str) -> None:
    path = holding.path
    try:
        if holding.table:
            _delete_rows(path, brain)
        elif path.is_dir() and not path.is_symlink():
            # Moved aside first: a folder of which half is deleted would look like a result with faults.
            aside = path
            if not path.name.startswith(TEMPORARY_PREFIX):
                aside = path.with_name(f"{TEMPORARY_PREFIX}forgotten-{uuid.uuid4().hex[:8]}")
                path.rename(aside)
            shutil.rmtree(aside)
        else:
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        return  # A run that is at work has removed it.
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be deleted ({error.strerror}); sub-{brain} is not forgotten completely.",
            to_fix=f"give this user write permission there, then: cytonet forget {brain} --yes",
            meanwhile="the brain is not ingested and takes part in nothing",
        ) from error


def _delete_rows(path: Path, brain: str) -> None:
    """Write a table of an encoder's folder again without the rows of a brain, its metadata as they are."""
    import pyarrow.compute
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(path, partitioning=None)
    others = rows.filter(pyarrow.compute.not_equal(rows["brain"].cast("string"), brain))
    stamp = full_stamp(path.parent)
    # Out of the stamp first: a run that is killed in between must not leave a file that counts as damaged.
    _restamp(stamp, path.name, None)
    with atomic_file(path) as temporary:
        pyarrow.parquet.write_table(others, temporary, compression="zstd")
    _restamp(stamp, path.name, record_of(path))


def _restamp(stamp: Stamp | None, name: str, record: FileRecord | None) -> None:
    """Write a stamp again with another record of one file, or without one; nothing without digests of files."""
    if stamp is None or stamp.files is None:
        return
    others = {known: each for known, each in stamp.files.items() if known != name}
    replace(stamp, files=others if record is None else {**others, name: record}).write()


def _require_no_training_run(settings: Settings, store: Store, brain: str) -> None:
    from cytonet_pipeline.cluster.launchers import launcher_of

    for encoder, folder in unfinished_training_runs(store, brain):
        if encoder not in settings.experiments.encoders:
            continue  # Of another experiments file; its launcher is not known here.
        attempt = launcher_of(settings, encoder, lambda line: None).running(folder)
        if attempt is not None:
            raise TrainingError(
                f"encoder {encoder}: attempt {attempt.number} ({attempt.label}) waits or runs, and its training set "
                f"lists sub-{brain}; nothing has been deleted.",
                looked_for=str(attempt.place),
                to_fix="terminate its run first",
            )


def _still_written(brain: str, found: list[Holding]) -> StoreError:
    return StoreError(
        f"sub-{brain} is not forgotten completely: something writes its data while they are deleted.",
        looked_for=[str(holding.path) for holding in found[:5]],
        to_fix=f"end the runs that are at work, then: cytonet forget {brain} --yes",
        meanwhile="the brain is not ingested and takes part in nothing",
    )
