"""When a brain may be ingested, and whether it may take part in training and evaluation.

Digitising a brain takes a year: it is ingested when `participants.tsv` says so in its column `ingest`, or, without that
column, when nothing in it has changed for a while.
"""

import os
import time
from pathlib import Path

import pandas as pd

from cytonet_pipeline.dataset.files import read_tsv
from cytonet_pipeline.dataset.section_table import table_path
from cytonet_pipeline.errors import ConfigurationError, DataFault
from cytonet_pipeline.names import bare_brain

# A file that is written and renamed changes its folder this soon after its own time (s).
_OF_ONE_WRITE_S = 5.0
_DERIVATIVES = ("registration", "segmentation", "annotation", "surfaces", "sections")


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
    if participants is not None and "ingest" in participants.columns:
        return not _not_ready(brain, participants)
    changed = last_change(root, brain)
    return changed is not None and time.time() - changed >= 60 * quiet_minutes


def reason_against(root: Path, brain: str, participants: pd.DataFrame | None) -> str:
    """Return why a brain that has been ingested must not take part in training and evaluation; empty if it may.

    The quiet time does not count: it says when a brain is ingested. One whose files are being changed takes part as it
    was ingested, until it is ingested anew.
    """
    if not (root / f"sub-{brain}").is_dir() and not table_path(root, brain).is_file():
        return f"{brain}: the data set does not have it: neither a folder sub-{brain} nor a section table."
    if participants is not None and "ingest" in participants.columns:
        return _not_ready(brain, participants)
    return ""


def _not_ready(brain: str, participants: pd.DataFrame) -> str:
    """Return why the participants' table does not release a brain; empty if it does."""
    ingest = participants.loc[participants["participant_id"] == brain, "ingest"]
    if ingest.empty:
        return f"{brain}: not released: participants.tsv does not list it."
    others = [str(value or "n/a") for value in ingest if str(value).lower() != "ready"]
    return f"{brain}: not released: `ingest` is {others[0]!r} in participants.tsv, not 'ready'." if others else ""


def last_change(root: Path, brain: str) -> float | None:
    """Return when a file or folder of the brain last changed (seconds since 1970); None if it has none.

    Folders count too: a file that arrives with its old date changes the folder that it arrives in. A withdrawal does
    not count: it must take effect at once, not when the brain has been quiet again.
    """
    folders = [root / f"sub-{brain}", *(root / "derivatives" / kind / f"sub-{brain}" for kind in _DERIVATIVES)]
    return max((time_of for folder in folders for time_of in _times(folder)), default=None)


def _times(folder: Path) -> list[float]:
    times: list[float] = []
    for place, _, names in os.walk(folder):
        counted = {name: _time(place, name) for name in ("", *names)}
        withdrawn = counted.pop(f"{folder.name}_withdrawn.tsv", None)
        if withdrawn is not None and abs(counted[""] - withdrawn) < _OF_ONE_WRITE_S:
            del counted[""]  # The folder changed when that file was written.
        times += counted.values()
    return times


def _time(place: str, name: str) -> float:
    try:
        return os.stat(os.path.join(place, name)).st_mtime
    except OSError:  # vanished since it was listed: it has just changed
        return time.time()
