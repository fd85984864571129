"""When a brain may be ingested.

Digitising a brain takes a year: it is ingested when `participants.tsv` says so in its column `ingest`, or, without that
column, when nothing in it has changed for a while.
"""

import os
import time
from pathlib import Path

import pandas as pd

from cytonet_pipeline.dataset.files import read_tsv
from cytonet_pipeline.dataset.names import bare
from cytonet_pipeline.errors import ConfigurationError, DataFault

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
    return frame.assign(participant_id=[bare(name, "sub") for name in frame["participant_id"]])


def is_released(root: Path, brain: str, participants: pd.DataFrame | None, quiet_minutes: float) -> bool:
    """Tell whether a brain may be ingested, by the participants' table or else by its quiet time."""
    if participants is not None and "ingest" in participants.columns:
        ingest = participants.loc[participants["participant_id"] == brain, "ingest"]
        return len(ingest) > 0 and all(str(value).lower() == "ready" for value in ingest)
    changed = last_change(root, brain)
    return changed is not None and time.time() - changed >= 60 * quiet_minutes


def last_change(root: Path, brain: str) -> float | None:
    """Return when a file or folder of the brain last changed (seconds since 1970); None if it has none.

    Folders count too: a file that arrives with its old date changes the folder that it arrives in. A withdrawal does not
    count: it must take effect at once, not when the brain has been quiet again.
    """
    folders = [root / f"sub-{brain}", *(root / "derivatives" / kind / f"sub-{brain}" for kind in _DERIVATIVES)]
    return max((time_of for folder in folders for time_of in _times(folder)), default=None)


def _times(folder: Path) -> list[float]:
    times = []
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
