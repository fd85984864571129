"""One attempt at a training or another long step: a numbered folder with its record, its log and its messages.

All that a later process must know lies in `job/attempt-N/`, so that it finds what an earlier one left behind. Where the
work runs (a child process, a batch job) is the business of the launchers.
"""

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

# What a training exits with when it wants to be continued (EX_TEMPFAIL of sysexits.h).
CONTINUE = 75
# What runs on a node: modules of this package by name, because they lie in rooms of their own.
TRAINING = "cytonet_pipeline.learning"
STEP = "cytonet_pipeline.stages"


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
        """Everything that the processes printed."""
        return self.place / "log.txt"

    @property
    def messages(self) -> Path:
        """What rank 0 told Dagster, a JSON object a line."""
        return self.place / "messages.jsonl"

    @property
    def record(self) -> dict[str, Any]:
        """`job.json`; empty before it is written."""
        return read_json(self.place / "job.json")

    @property
    @abstractmethod
    def label(self) -> str:
        """What runs, in words for people."""

    @property
    def survives(self) -> bool:
        """Whether it goes on when whoever follows it is stopped without being told to end it."""
        return False

    @abstractmethod
    def poll(self) -> int | None:
        """Exit code, None while it waits or runs. 0: done; 75: run it again to continue; else: failed."""

    @abstractmethod
    def terminate(self, grace_s: float = 60.0, who: str = "") -> int:
        """Ask it to write a checkpoint and stop, on behalf of `who`; end it by force after `grace_s`.

        Returns
        -------
        int
            Exit code.
        """

    def news(self) -> list[str]:
        """Lines about what has changed since the last call."""
        return []

    def tags(self) -> dict[str, str]:
        """What a Dagster run is tagged with."""
        return {}

    def ending(self) -> str:
        """How it ended, as the end of a sentence that starts with the attempt."""
        return f"ended with exit code {self.poll()}"

    def remedy(self) -> str:
        """What to do about an attempt that failed."""
        return "mend what the log says and run again; it goes on from the last checkpoint"

    def reported(self) -> bool:
        """Whether its process ever opened its connection to Dagster."""
        return any(message.get("method") == "opened" for message in read_lines(self.messages))

    def progress(self) -> dict[str, Any]:
        """What the training says of itself: `state`, `step`, `steps`, `loss` …; empty before it says anything."""
        said = read_json(self.folder / "progress.json")
        # An earlier attempt's figures are not this one's.
        return said if said.get("updated", 0.0) >= self.record.get("started", 0.0) else {}

    def tail(self, lines: int = 20) -> str:
        """The last lines of the log."""
        try:
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""


class Launcher(Protocol):
    """What `LocalLauncher` and `SlurmLauncher` have in common."""

    def running(self, folder: Path) -> Attempt | None:
        """The attempt that waits or runs in a folder, whoever started it."""
        ...

    def reserve(self, folder: Path) -> Path:
        """Make the folder of the next attempt, for files that must be there before it starts."""
        ...

    def start(self, place: Path, environment: Mapping[str, str] | None = None) -> Attempt:
        """Start what a reserved attempt is for, with variables beside the launcher's own."""
        ...


def last_attempt(folder: Path) -> Path | None:
    """Place of the attempt with the highest number; None before the first."""
    places = [place for place in (folder / "job").glob("attempt-*") if _number(place)]
    return max(places, key=_number, default=None)


def reserve(folder: Path) -> Path:
    """Make the folder of the next attempt."""
    while True:
        last = last_attempt(folder)
        place = folder / "job" / f"attempt-{_number(last) + 1 if last else 1}"
        # Two that reserve at once get two numbers.
        with contextlib.suppress(FileExistsError):
            place.mkdir(parents=True)
            return place


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none, or none that is whole."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def read_lines(path: Path) -> list[dict[str, Any]]:
    """JSON objects, one a line; a line that is not whole is left out."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        with contextlib.suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict):
                found.append(value)
    return found


def _number(place: Path) -> int:
    number = place.name.removeprefix("attempt-")
    return int(number) if number.isdigit() else 0
