"""Training as a child process of this machine, in the manner of a batch system.

An attempt is a process group with a record, `job/attempt-N/job.json`, and a log beside it. It outlives the process that
started it: a later call finds the live attempt by its record instead of starting a second one. One rank is run by
`python -m` directly, several go through torchrun.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytonet_pipeline.cluster.attempt import CONTINUE, Attempt, last_attempt, read_json, reserve
from cytonet_pipeline.cluster.backend import Notify
from cytonet_pipeline.errors import TrainingError
from cytonet_pipeline.learning import training_command, training_environment
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import write_json
from cytonet_pipeline.store.processes import birth_of, is_alive, usable_cores
from cytonet_pipeline.store.reading_note import left_unread

# The value of CYTONET_CLUSTER for this back-end.
LOCAL = "local"

# torchrun passes on only the signals named here, and kills its ranks after 30 s; a step and its checkpoint may take
# longer, and how long they may take is decided by `terminate`.
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
        """Name for people."""
        return f"process {self.pid}"

    def poll(self) -> int | None:
        """Return the exit code, None while it runs; its end is recorded when it is first seen.

        0: done; 75: run it again to continue; else: failed. For an attempt that another process started, and for ranks
        behind torchrun, the last state that the training process reported decides.
        """
        record = self.record
        if record.get("state") == "ended":
            return int(record["exit_code"])
        code = self._child.poll() if self._child else None
        if code is None and (self._child or is_alive(self.pid, record)):
            return None
        state = self.progress().get("state")
        if code is None:
            code = 0 if state == "done" else 1
        if code != 0 and state == "interrupted":
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
        # torchrun gives each rank a session of its own: the process group is only torchrun itself.
        ranks = _descendants(self.pid)
        self._signal(signal.SIGKILL)
        for pid in ranks:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


class LocalLauncher:
    """Starts training on this machine, or finds the attempt that runs already.

    Parameters
    ----------
    data : Path
        The data set.
    processes : int
        Ranks of a training run.
    threads : int, optional
        CPU threads per rank; default: `OMP_NUM_THREADS`, as for torch itself, else the cores, shared out.
    python : str
        Interpreter of the child processes; default: this one.
    """

    def __init__(
        self, data: Path, *, processes: int = 1, threads: int | None = None, python: str = sys.executable
    ) -> None:
        self.data = data
        self.processes = processes
        self.threads = threads or threads_wanted() or max(1, usable_cores() // processes)
        self.python = python

    def running(self, folder: Path) -> LocalAttempt | None:
        """Find the attempt that runs in an encoder's folder; None if there is none on this machine."""
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
            Variables beside those of this process, such as those of a Dagster Pipes session.
        """
        command = self.command(place.parent.parent)
        started = time.time()
        with (place / "log.txt").open("wb") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **training_environment(self.threads), **_TORCHRUN, **(environment or {})},
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
        """Build the command line of a training run."""
        launcher = [self.python, "-m"]
        if self.processes > 1:
            launcher += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(self.processes), "-m"]
        return [*launcher, *training_command(folder, self.data, threads=self.threads)]

    def train(
        self,
        folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
        every_s: float = 0.5,
        restarts: int = 100,
    ) -> LocalAttempt:
        """Start (or find) a training run and wait for its end; one that asks to be continued is started again.

        Parameters
        ----------
        on_progress : callable, optional
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
            code = _wait(attempt, on_progress, every_s)
            if code == 0:
                return attempt
            if code != CONTINUE:
                break
        read = left_unread()
        raise TrainingError(
            f"{folder}: attempt {attempt.number} ended with exit code {code}.{read and f' {read}'}\n{attempt.tail()}",
            looked_for=str(attempt.log),
            to_fix=attempt.remedy(),
        )


def threads_wanted() -> int | None:
    """Return the number of threads that `OMP_NUM_THREADS` asks for on the outermost level; None if it does not."""
    outermost = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(outermost) if outermost.isdecimal() and int(outermost) > 0 else None


def _wait(attempt: Attempt, on_progress: Callable[[dict[str, Any]], None] | None, every_s: float) -> int:
    last: dict[str, Any] = {}
    while True:
        code = attempt.poll()
        report = attempt.progress()
        if on_progress and report != last:
            on_progress(report)
        last = report
        if code is not None:
            return code
        time.sleep(every_s)


def _descendants(pid: int) -> list[int]:
    """List the processes that a process has started, and all that those have; empty on systems other than Linux."""
    parents: dict[int, int] = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            fields = (place / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(place.name)] = int(fields[1])
    family = [pid]
    for each in family:
        family += [child for child, parent in parents.items() if parent == each]
    return family[1:]


class LocalBackend:
    """Back-end without a cluster: training in child processes, other steps in the process that asks for them."""

    title = "this machine"
    pools: Mapping[str, int] = {}

    def training_launcher(self, settings: Settings, encoder: str, notify: Notify) -> LocalLauncher:
        """See `Backend.training_launcher`."""
        return LocalLauncher(settings.data, processes=settings.encoder(encoder).processes)

    def step_launcher(self, settings: Settings, step: str, arguments: Sequence[str], notify: Notify) -> None:
        """See `Backend.step_launcher`: there is none."""

    def waiting_pool(self, step: str) -> None:
        """See `Backend.waiting_pool`: nothing only waits."""

    def training_gpus(self) -> None:
        """See `Backend.training_gpus`: the experiment's `processes` say it."""

    def check_up(self, settings: Settings) -> None:
        """See `Backend.check_up`: there is no site."""
