"""Processes that bring partitions up to date side by side, for `cytonet run --jobs`.

Each has its own Dagster runs, torch and caches, and an equal share of the cores. They report progress and summaries to
the process that started them, which alone writes to the terminal. Only that process gets Ctrl-C; it passes it on, and
waits until each worker has left its run in order.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType, TracebackType
from typing import Any

import dagster as dg

from cytonet_pipeline import progress
from cytonet_pipeline.defs.job_run import RunSummary, WalkedJob, bring_up_to_date
from cytonet_pipeline.learning import MALLOC_ENVIRONMENT
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store.reading_note import left_unread

BuildDefs = Callable[[Mapping[str, Any]], dg.Definitions]

# A training run that is stopped finishes its step and writes a checkpoint.
_GRACE_S = 90.0
# A line of progress is sent no more often than this.
_EVERY_S = 0.1


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    label: str | None = None
    lines: dict[int, tuple[contextlib.ExitStack, progress.Task]] = field(default_factory=dict)


class Workers:
    """Worker processes; a context that ends them.

    Parameters
    ----------
    build_defs : callable
        A function of a module: builds the definitions in a worker, from resources by key.
    instance : dg.DagsterInstance
        One that other processes can open.
    count : int
        How many.
    threads : int
        Threads of each, for torch and BLAS.
    """

    def __init__(
        self,
        build_defs: BuildDefs,
        settings: Settings,
        instance: dg.DagsterInstance,
        *,
        count: int,
        threads: int,
    ) -> None:
        self.count, self.threads = count, threads
        self._arguments = (build_defs, settings, instance.get_ref())
        self._environment = {
            **settings.environment(),
            **MALLOC_ENVIRONMENT,
            "OMP_NUM_THREADS": str(threads),
            "NUMBA_NUM_THREADS": str(threads),
        }
        self._workers: list[_Worker] = []

    def __enter__(self) -> "Workers":
        """Take SIGTERM for Ctrl-C from now on, as Dagster does during a run."""
        self._handler = None
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGTERM, _interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers; after an interruption or an error each leaves its run first."""
        if kind is not None:
            self._interrupt()
        for worker in self._workers:
            self._end(worker)
        self._workers.clear()
        if self._handler is not None:
            signal.signal(signal.SIGTERM, self._handler)

    def start(self, job: WalkedJob, partition: str | None, *, blocked: bool) -> None:
        """Give a run to an idle worker; see `bring_up_to_date`."""
        worker = next((worker for worker in self._workers if worker.label is None), None) or self._new()
        worker.label = job.label(partition)
        with contextlib.suppress(OSError):  # It has died; `wait` sees it.
            worker.connection.send((job, partition, blocked))

    def wait(self) -> list[tuple[str, RunSummary]]:
        """Show progress until runs end; return their labels and summaries.

        A worker that dies is a failure of its run, and replaced.

        Raises
        ------
        KeyboardInterrupt
            A worker was interrupted.
        """
        ended: list[tuple[str, RunSummary]] = []
        while not ended and any(worker.label for worker in self._workers):
            busy = {worker.connection: worker for worker in self._workers if worker.label}
            for connection in wait(list(busy)):
                worker = busy[connection]  # type: ignore[index]
                label = worker.label or ""
                try:
                    kind, *content = worker.connection.recv()
                except (EOFError, OSError):
                    ended.append((label, self._failed(worker)))
                    continue
                if kind == "interrupted":
                    raise KeyboardInterrupt
                if kind == "ended":
                    worker.label = None
                    ended.append((label, content[0]))
                else:
                    _show(worker, kind, *content)
        return ended

    def _new(self) -> _Worker:
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        process = multiprocessing.get_context("spawn").Process(target=_work, args=(theirs, *self._arguments))
        with _environment(self._environment):
            process.start()
        theirs.close()
        self._workers.append(_Worker(process, ours))
        return self._workers[-1]

    def _failed(self, worker: _Worker) -> RunSummary:
        label = worker.label or ""
        self._end(worker)
        self._workers.remove(worker)
        code = worker.process.exitcode or 0
        ending = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        read = left_unread(worker.process.pid) if code < 0 else ""
        what = f"its worker process ended with {ending}; run it again to go on"
        return RunSummary(failed={label: f"{what}. {read}" if read else what})

    def _interrupt(self) -> None:
        for worker in self._workers:
            if worker.process.is_alive() and worker.process.pid:
                os.kill(worker.process.pid, signal.SIGINT)

    def _end(self, worker: _Worker) -> None:
        for lines, _ in worker.lines.values():
            lines.close()
        worker.lines.clear()
        # An idle worker ends when nothing can come any more; what a busy one still reports has to be taken from it.
        deadline = time.monotonic() + _GRACE_S
        with contextlib.suppress(EOFError, OSError):
            if worker.label is None:
                worker.connection.send(None)
            while time.monotonic() < deadline and worker.connection.poll(max(deadline - time.monotonic(), 0)):
                worker.connection.recv()
        worker.process.join(max(deadline - time.monotonic(), 1))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.connection.close()


def _show(worker: _Worker, kind: str, line: int, *content: Any) -> None:
    """Open, move or close a line of progress of a worker."""
    if kind == "opened":
        stack = contextlib.ExitStack()
        worker.lines[line] = (stack, stack.enter_context(progress.task(*content)))
    elif kind == "moved":
        worker.lines[line][1].to(*content)
    else:
        worker.lines.pop(line)[0].close()


class _Relay:
    """Sends lines of progress to the process that started this one; see `progress.Display`."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._opened = connection, 0

    @contextmanager
    def task(self, description: str, total: float | None) -> Iterator[progress.Task]:
        self._opened += 1
        line = _RelayedLine(self._connection, self._opened)
        self._connection.send(("opened", line.number, description, total))
        try:
            yield line
        finally:
            line.flush()
            self._connection.send(("closed", line.number))


class _RelayedLine:
    def __init__(self, connection: Connection, number: int) -> None:
        self._connection, self.number = connection, number
        self._done, self._note = 0.0, ""
        self._sent, self._due = (0.0, ""), 0.0

    def advance(self, steps: float = 1) -> None:
        self.to(self._done + steps, self._note)

    def to(self, done: float, note: str = "") -> None:
        self._done, self._note = done, note
        if time.monotonic() >= self._due:
            self.flush()

    def flush(self) -> None:
        if self._sent != (self._done, self._note):
            self._connection.send(("moved", self.number, self._done, self._note))
            self._sent, self._due = (self._done, self._note), time.monotonic() + _EVERY_S


def _work(connection: Connection, build_defs: BuildDefs, settings: Settings, instance_ref: Any) -> None:
    """Do what comes over a connection, until nothing can come any more; the whole life of a worker process."""
    os.setsid()  # Ctrl-C reaches the process that started this one, and it alone passes it on.
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    with contextlib.suppress(KeyboardInterrupt, EOFError, BrokenPipeError):
        defs = build_defs({"settings": settings})
        with dg.DagsterInstance.from_ref(instance_ref) as instance, progress.shown_on(_Relay(connection)):
            while (request := connection.recv()) is not None:
                job, partition, blocked = request
                try:
                    summary = bring_up_to_date(defs, instance, settings, job, partition, blocked=blocked)
                except KeyboardInterrupt:
                    connection.send(("interrupted",))
                    return
                connection.send(("ended", summary))


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables for the processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
