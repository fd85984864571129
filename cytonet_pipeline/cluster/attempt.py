"""One attempt at training or another long step: a numbered folder with its record, its log and its messages.

All that a later process must know lies in `job/attempt-N/`, so that it finds what an earlier one left behind. Where the
work runs (in a child process, in a batch job) is up to the launchers.
"""

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cytonet_pipeline.store import lock

# Exit code of a training process that asks to be continued (EX_TEMPFAIL of sysexits.h).
CONTINUE = 75
# Longer than a submission waits for a cluster that does not answer; a lock whose holder is dead is broken much sooner.
_WAIT_S = 3900.0


@dataclass
class Attempt(ABC):
    """One attempt, wherever it runs.

    Attributes
    ----------
    place : Path
        `job/attempt-N` in the encoder's folder.
    """

    place: Path

    @property
    def folder(self) -> Path:
        """The encoder's folder."""
        return self.place.parent.parent

    @property
    def number(self) -> int:
        """Number of the attempt, from 1."""
        return _number(self.place)

    @property
    def log(self) -> Path:
        """Log file with everything that the processes printed."""
        return self.place / "log.txt"

    @property
    def messages(self) -> Path:
        """File of the messages of rank 0 to Dagster, one JSON object per line."""
        return self.place / "messages.jsonl"

    @property
    def record(self) -> dict[str, Any]:
        """Content of `job.json`; empty before it is written."""
        return read_json(self.place / "job.json")

    @property
    @abstractmethod
    def label(self) -> str:
        """Name for people, such as `process 4711`."""

    @property
    def survives(self) -> bool:
        """Whether it goes on when the process that follows it stops without terminating it."""
        return False

    @abstractmethod
    def poll(self) -> int | None:
        """Return the exit code, None while it waits or runs. 0: done; 75: run it again to continue; else: failed."""

    @abstractmethod
    def terminate(self, grace_s: float = 60.0, who: str = "") -> int:
        """Ask it to write a checkpoint and stop, on behalf of `who`; kill it after `grace_s`.

        Returns
        -------
        int
            Exit code.
        """

    def changes(self) -> list[str]:
        """Return lines about what has changed since the last call."""
        return []

    def tags(self) -> dict[str, str]:
        """Return the tags of a Dagster run that follows it."""
        return {}

    def ending(self) -> str:
        """Say how it ended: the end of a sentence that starts with the attempt."""
        return f"ended with exit code {self.poll()}"

    def remedy(self) -> str:
        """Say what to do about an attempt that failed."""
        return "fix the cause that the log shows and run again; training continues from the last checkpoint"

    def reported(self) -> bool:
        """Tell whether its process ever opened its connection to Dagster."""
        return any(message.get("method") == "opened" for message in read_lines(self.messages))

    def progress(self) -> dict[str, Any]:
        """Read what the training process reports: `state`, `step`, `steps`, `loss` …; empty before its first report."""
        report = read_json(self.folder / "progress.json")
        # An earlier attempt's figures are not this one's.
        return report if report.get("updated", 0.0) >= self.record.get("started", 0.0) else {}

    def tail(self, lines: int = 20) -> str:
        """Return the last lines of the log."""
        try:
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""


class Launcher(Protocol):
    """Starts attempts in a folder, or finds the one that is there already."""

    def running(self, folder: Path) -> Attempt | None:
        """Find the attempt that waits or runs in a folder, no matter which process started it."""
        ...

    def reserve(self, folder: Path) -> Path:
        """Make the folder of the next attempt, for files that must be there before it starts."""
        ...

    def start(self, place: Path, environment: Mapping[str, str] | None = None) -> Attempt:
        """Start a reserved attempt, with variables beside the launcher's own."""
        ...


def last_attempt(folder: Path) -> Path | None:
    """Return the place of the attempt with the highest number; None before the first."""
    places = [place for place in (folder / "job").glob("attempt-*") if _number(place)]
    return max(places, key=_number, default=None)


def reserve(folder: Path) -> Path:
    """Make the folder of the next attempt."""
    while True:
        last = last_attempt(folder)
        place = folder / "job" / f"attempt-{_number(last) + 1 if last else 1}"
        # Two processes that reserve at once get two numbers.
        with contextlib.suppress(FileExistsError):
            place.mkdir(parents=True)
            return place


@contextlib.contextmanager
def submission_lock(folder: Path) -> Iterator[None]:
    """Let one process at a time look for an attempt in a folder, and start one if there is none.

    Raises
    ------
    StoreError
        Another process has held the lock for more than an hour.
    """
    with lock(folder / "job" / ".submitting.lock", "looking for a job, or submitting one", wait_s=_WAIT_S):
        yield


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty if there is no file, or no complete one."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON objects, one per line; an incomplete line is left out."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    objects = []
    for line in lines:
        with contextlib.suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict):
                objects.append(value)
    return objects


def _number(place: Path) -> int:
    number = place.name.removeprefix("attempt-")
    return int(number) if number.isdigit() else 0
