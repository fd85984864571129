"""The local launcher: a training as a child process of this machine.

The child has a session of its own: it outlives a killed parent, and the next run finds it by `job.json` in the encoder's
folder instead of starting a second one. All state of an attempt lies in `job/attempt-N/`.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.store import read_record, write_record

_GRACE_S = 60.0


@dataclass
class Attempt:
    """One run of the training's process.

    Attributes
    ----------
    child : Popen or None
        The process, if this one has started it; None for one that an earlier run left behind.
    """

    folder: Path
    number: int
    pid: int
    child: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What the training wrote."""
        return self.folder / "log.txt"

    def poll(self) -> int | None:
        """Exit code, or None while it runs.

        Only a parent is told the exit code. An attempt of an earlier run has succeeded if the encoder is there.
        """
        if self.child is not None:
            code = self.child.poll()
        elif _is_alive(self.pid, self.folder):
            code = None
        else:
            code = 0 if (self.folder.parent.parent / "encoder.json").exists() else 1
        if code is not None:
            _note(self.folder, state="ended", exit_code=code)
        return code

    def tail(self, lines: int) -> str:
        """Last lines of the log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError as error:
            return f"(no log: {error})"

    def terminate(self) -> None:
        """Ask for a checkpoint and an end; insist after a minute."""
        _signal(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_S
        while self.poll() is None:
            if time.monotonic() > deadline:
                _signal(self.pid, signal.SIGKILL)
                break
            time.sleep(0.1)


class LocalLauncher:
    """Starts trainings here.

    Parameters
    ----------
    data : Path
        The data set that the scans' paths start from.
    processes : int
        Ranks. More than one go through torchrun.
    """

    def __init__(self, data: Path, *, processes: int = 1) -> None:
        self._data, self._processes = data, processes

    def reserve(self, folder: Path) -> Path:
        """Make the folder of the next attempt, `job/attempt-N` of an encoder's folder; nobody else gets the same."""
        number = 1 + max((_number(path) for path in (folder / "job").glob("attempt-*")), default=0)
        attempt = folder / "job" / f"attempt-{number}"
        attempt.mkdir(parents=True)
        return attempt

    def running(self, folder: Path) -> Attempt | None:
        """The attempt that is running in an encoder's folder, whoever started it."""
        for path in sorted((folder / "job").glob("attempt-*"), key=_number, reverse=True):
            job = _job(path)
            pid = job.get("pid")
            if job.get("host") == socket.gethostname() and isinstance(pid, int) and _is_alive(pid, path):
                return Attempt(path, _number(path), pid)
        return None

    def start(self, attempt: Path, environment: Mapping[str, str]) -> Attempt:
        """Start a reserved attempt; `environment` comes on top of this process's own."""
        command = self.command(attempt.parent.parent)
        # Written before the start: whoever is killed in between leaves an intent, and no process.
        write_record(attempt / "job.json", {"state": "starting", "command": command, "host": socket.gethostname()})
        with (attempt / "log.txt").open("wb") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment, "PYTHONUNBUFFERED": "1", _MARK: str(attempt)},
                start_new_session=True,
            )
        _note(attempt, state="running", pid=child.pid, started=time.time())
        return Attempt(attempt, _number(attempt), child.pid, child)

    def command(self, folder: Path) -> list[str]:
        """The command line of a training."""
        training = ["-m", "cytonet_pipeline.learning", str(folder), "--data", str(self._data)]
        if self._processes == 1:
            return [sys.executable, *training]
        ranks = ["--standalone", "--nproc-per-node", str(self._processes)]
        threads = max(1, (os.cpu_count() or 1) // self._processes)
        return [sys.executable, "-m", "torch.distributed.run", *ranks, *training, "--threads", str(threads)]


# Stands in the child's environment, so that a process number used again is not taken for the training.
_MARK = "CYTONET_ATTEMPT"


def _is_alive(pid: int, attempt: Path) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False if Path("/proc/self").exists() else _answers(pid)
    return state != "Z" and f"{_MARK}={attempt}".encode() in environment.split(b"\0")


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _signal(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


def _number(attempt: Path) -> int:
    return int(attempt.name.rpartition("-")[2])


def _job(attempt: Path) -> dict[str, Any]:
    try:
        return read_record(attempt / "job.json")
    except StoreError:
        return {}


def _note(attempt: Path, **facts: Any) -> None:
    job = _job(attempt)
    if any(job.get(name) != value for name, value in facts.items()):
        write_record(attempt / "job.json", {**job, **facts})
