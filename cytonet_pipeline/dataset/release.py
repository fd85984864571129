"""When a brain may be ingested, and whether it may take part in training and evaluation.

Digitising a brain takes a year: it is ingested when `participants.tsv` says so in its column `ingest`, or, without that
column, when nothing in it has changed for a while.
"""

import time
from pathlib import Path
from typing import TypeGuard

import pandas as pd

from cytonet_pipeline.dataset.changes import walk_files
from cytonet_pipeline.dataset.files import read_tsv
from cytonet_pipeline.dataset.section_table import table_path
from cytonet_pipeline.errors import ConfigurationError, DataFault
from cytonet_pipeline.names import bare_brain

# Clocks of a file server and of this machine may differ by so much.
_CLOCKS_DIFFER_S = 60.0


def read_participants(root: Path) -> pd.DataFrame | None:
    """Read `participants.tsv`, with bare names in `participant_id`; None if there is none.

    Raises
    ------
    ConfigurationError
        The table cannot be read.
    """
    path = root / "participants.tsv"
    if not path.is_file():
        return None
    try:
        frame = read_tsv(path, ("participant_id",))
    except DataFault as fault:
        raise ConfigurationError(f"{path}: {fault.what}") from fault
    frame = frame[frame["participant_id"].notna()]
    return frame.assign(participant_id=[bare_brain(name) for name in frame["participant_id"]])


def is_released(root: Path, brain: str, participants: pd.DataFrame | None, quiet_minutes: float) -> bool:
    """Tell whether a brain may be ingested, by the participants' table or else by its quiet time."""
    if releases_by_table(participants):
        return not reason_against_table(brain, participants)
    changed = walk_files(root, brain).last_change
    return changed is not None and time.time() - changed >= 60 * quiet_minutes


def future_file_of(root: Path, brain: str, participants: pd.DataFrame | None) -> str:
    """Return what is wrong with the last file of a brain if it keeps the brain from becoming quiet; else nothing."""
    if releases_by_table(participants):
        return ""
    files = walk_files(root, brain)
    return future_text(files.last_changed, files.last_change or 0.0)


def future_text(path: str, changed: float) -> str:
    """Return what to do about a file whose time of change lies in the future; nothing if it does not."""
    if changed <= time.time() + _CLOCKS_DIFFER_S:
        return ""
    clock = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(changed))
    return f"{path} is dated in the future, {clock}: correct the clock, or the file's time (touch)"


def releases_by_table(participants: pd.DataFrame | None) -> TypeGuard[pd.DataFrame]:
    """Tell whether the participants' table decides which brains are released; else their quiet times do."""
    return participants is not None and "ingest" in participants.columns


def reason_against(root: Path, brain: str, participants: pd.DataFrame | None) -> str:
    """Return why a brain that has been ingested must not take part in training and evaluation; empty if it may.

    The quiet time does not count: it says when a brain is ingested. One whose files are being changed takes part as it
    was ingested, until it is ingested anew.
    """
    if not (root / f"sub-{brain}").is_dir() and not table_path(root, brain).is_file():
        return f"{brain}: the data set does not have it: neither a folder sub-{brain} nor a section table."
    return reason_against_table(brain, participants)


def reason_against_table(brain: str, participants: pd.DataFrame | None) -> str:
    """Return why the participants' table does not release a brain; empty if it does, or leaves it to quiet times."""
    if not releases_by_table(participants):
        return ""
    ingest = participants.loc[participants["participant_id"] == brain, "ingest"]
    if ingest.empty:
        return f"{brain}: not released: participants.tsv does not list it."
    others = [str(value or "n/a") for value in ingest if str(value).lower() != "ready"]
    return f"{brain}: not released: `ingest` is {others[0]!r} in participants.tsv, not 'ready'." if others else ""
