"""Trainings as child processes of this machine, in the manner of a batch system.

An attempt is a process group with a record, `job/attempt-N/job.json`, and a log beside it. It outlives whoever started
it: a later call finds the live attempt by its record instead of starting a second one. One process runs `python -m`
directly, several go through torchrun.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytonet_pipeline.cluster.attempt import CONTINUE, TRAINING, Attempt, last_attempt, read_json, reserve
from cytonet_pipeline.errors import TrainingError
from cytonet_pipeline.store import write_json
from cytonet_pipeline.store.processes import birth_of, descendants, is_alive

# torchrun passes on only the signals that it is told of, and kills its ranks after 30 s; a step and its checkpoint may
# take longer, and how long they may is the business of `terminate`.
_TORCHRUN = {
    "PET_SIGNALS_TO_HANDLE": "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1",
    "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "600",
}


@dataclass
class LocalAttempt(Attempt):
    """One attempt on this machine.

    Attributes
    ----------
    pid : int
        Leader of the attempt's process group.
    """

    pid: int
    _child: "subprocess.Popen[bytes] | None" = None

    @property
    def label(self) -> str:
        """What runs, in words for people."""
        return f"process {self.pid}"

    def poll(self) -> int | None:
        """Exit code, None while it runs; the end is written down the first time that it is seen.

        0: done; 75: run it again to continue; else: failed. Of an attempt that another process started, and of ranks
        behind torchrun, the training's own last word decides.
        """
        record = self.record
        if record.get("state") == "ended":
            return int(record["exit_code"])
        code = self._child.poll() if self._child else None
        if code is None and (self._child or is_alive(self.pid, record)):
            return None
        said = self.progress().get("state")
        if code is None:
            code = 0 if said == "done" else 1
        if code != 0 and said == "interrupted":
            code = CONTINUE
        write_json(self.place / "job.json", {**record, "state": "ended", "exit_code": code, "ended": time.time()})
        return code

    def terminate(self, grace_s: float = 60.0, who: str = "") -> int:
        """See `Attempt.terminate`."""
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                self._kill()
            time.sleep(0.05)
        return code

    def _kill(self) -> None:
        # torchrun gives each rank a session of its own: the group is only torchrun itself.
        ranks = descendants(self.pid)
        self._signal(signal.SIGKILL)
        for pid in ranks:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


class LocalLauncher:
    """Starts trainings on this machine, or finds those that run already.

    Parameters
    ----------
    data : Path
        The data set.
    processes : int
        Ranks of a training.
    threads : int, optional
        CPU threads a rank; default: the cores, shared out.
    python : str
        Interpreter of the trainings; default: this one.
    """

    def __init__(
        self, data: Path, *, processes: int = 1, threads: int | None = None, python: str = sys.executable
    ) -> None:
        self.data = data
        self.processes = processes
        self.threads = threads or max(1, (os.cpu_count() or 1) // processes)
        self.python = python

    def running(self, folder: Path) -> LocalAttempt | None:
        """The attempt that runs in an encoder's folder, whoever started it; None if there is none on this machine."""
        place = last_attempt(folder)
        record = read_json(place / "job.json") if place else {}
        if place is None or record.get("state") != "running" or not is_alive(record["pid"], record):
            return None
        return LocalAttempt(place, record["pid"])

    def reserve(self, folder: Path) -> Path:
        """Make the folder of the next attempt, for files that must be there before it starts."""
        return reserve(folder)

    def start(self, place: Path, environment: Mapping[str, str] | None = None) -> LocalAttempt:
        """Start the training of a reserved attempt.

        Parameters
        ----------
        environment : mapping, optional
            Variables beside the present ones, as those of a Dagster Pipes session.
        """
        command = self.command(place.parent.parent)
        started = time.time()
        with (place / "log.txt").open("wb") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": str(self.threads), **_TORCHRUN, **(environment or {})},
                # A group of its own: Ctrl-C and the end of the caller do not reach it.
                start_new_session=True,
            )
        record = {
            "state": "running",
            "pid": child.pid,
            "born": birth_of(child.pid),
            "host": socket.gethostname(),
            "started": started,
            "command": command,
        }
        write_json(place / "job.json", record)
        return LocalAttempt(place, child.pid, child)

    def command(self, folder: Path) -> list[str]:
        """The command line of a training."""
        launcher = [self.python, "-m"]
        if self.processes > 1:
            launcher += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(self.processes), "-m"]
        return [*launcher, TRAINING, str(folder), "--data", str(self.data), "--threads", str(self.threads)]

    def train(
        self,
        folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
        watch: Callable[[dict[str, Any]], None] | None = None,
        every_s: float = 0.5,
        restarts: int = 100,
    ) -> LocalAttempt:
        """Start (or find) a training and wait for its end; one that asks to be continued is started again.

        Parameters
        ----------
        watch : callable, optional
            Gets `Attempt.progress()` whenever it changes.
        restarts : int
            How often it may ask to be continued.

        Raises
        ------
        TrainingError
            It failed; with the end of its log.
        """
        for _ in range(restarts + 1):
            attempt = self.running(folder) or self.start(self.reserve(folder), environment)
            code = _wait(attempt, watch, every_s)
            if code == 0:
                return attempt
            if code != CONTINUE:
                break
        raise TrainingError(
            f"{folder}: attempt {attempt.number} ended with exit code {code}.\n{attempt.tail()}",
            looked_for=str(attempt.log),
            to_fix="mend what the log says and run again; the training goes on from its last checkpoint",
        )


def _wait(attempt: Attempt, watch: Callable[[dict[str, Any]], None] | None, every_s: float) -> int:
    seen: dict[str, Any] = {}
    while True:
        code = attempt.poll()
        said = attempt.progress()
        if watch and said != seen:
            watch(said)
        seen = said
        if code is not None:
            return code
        time.sleep(every_s)


__all__ = ["CONTINUE", "LocalAttempt", "LocalLauncher"]
