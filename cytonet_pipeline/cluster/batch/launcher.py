"""Training and other long steps as jobs of a batch system, with the same interface as the launcher of this machine.

A job does not belong to the process that submitted it: a later process finds it by its record in the store, whether it
waits, runs or has ended meanwhile. What is particular to one batch system (commands, job script) is given to the
launcher as its queue and its renderer.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from cytonet_pipeline.cluster.attempt import last_attempt, read_json, reserve
from cytonet_pipeline.cluster.backend import Notify
from cytonet_pipeline.cluster.batch import record as records
from cytonet_pipeline.cluster.batch.attempt import BatchAttempt, Patience
from cytonet_pipeline.cluster.batch.job_state import JobState
from cytonet_pipeline.cluster.batch.queue import BatchQueue
from cytonet_pipeline.errors import SubmissionRefused, TransportDown
from cytonet_pipeline.store import write_text

_log = logging.getLogger(__name__)
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Job:
    """What a job runs.

    Attributes
    ----------
    name : str
        Under this name it is found in the queue, so no two jobs share one.
    place : Path
        The attempt's folder as the nodes see it: script, log and events lie there.
    step : str
        `encoder`, or another step that the site's description knows: determines the resources.
    arguments : tuple of str
        What follows `python -m`: module and arguments.
    ranks : int
        Processes per node, started by the site's launcher command; 0: one process without a launcher.
    environment : mapping
        Variables of the tasks, beside those of the site's set-up. They end up in the script: no secrets.
    """

    name: str
    place: Path
    step: str
    arguments: tuple[str, ...]
    ranks: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)


class BatchLauncher:
    """Submits jobs, or finds those that are there already.

    Parameters
    ----------
    system : str
        Name of the batch system for people; in lower case it is the back-end's key and the `cluster` of a job's record.
    queue : BatchQueue
        Its queue.
    render : callable
        Writes the script of a job. The script notes each start, end and requeue in `events.jsonl` beside it, see
        `record.starts`, and a fault of its set-up in `fault.txt`.
    arguments : callable
        What follows `python -m` for a folder.
    step : str
        Step of the site's description whose resources the jobs get.
    ranks : int
        Processes per node under the site's launcher command; 0: one process without it.
    environment : mapping
        Variables of every job.
    notify : callable
        Gets a line when a submission has to wait for the cluster.
    """

    def __init__(
        self,
        system: str,
        queue: BatchQueue,
        render: Callable[[Job], str],
        arguments: Callable[[Path], Sequence[str]],
        *,
        step: str = "encoder",
        ranks: int = 0,
        environment: Mapping[str, str] | None = None,
        patience: Patience | None = None,
        notify: Notify = _log.warning,
    ) -> None:
        self.system, self.queue, self.render = system, queue, render
        self.arguments, self.step, self.ranks = arguments, step, ranks
        self.environment = dict(environment or {})
        self.patience = patience or Patience()
        self.notify = notify

    def latest(self, folder: Path) -> BatchAttempt | None:
        """Find the last submission of a folder, even if it has ended or its submitter died before it noted the id.

        Raises
        ------
        TransportDown
            Whether it was submitted cannot be found out, for an hour.
        """
        place = last_attempt(folder)
        record = read_json(place / "job.json") if place else {}
        if place is None or record.get("cluster") != self.system.lower():
            return None
        if record["state"] == "intended":
            jobs = self._submitted_as(record["name"], record["started"] + self.patience.settled_s - time.time())
            if not jobs:
                records.write_end(place, 1, refused="its submission was interrupted")
                return None
            records.write_id(place, jobs[-1].job_id)
        return self._attempt(place)

    def running(self, folder: Path) -> BatchAttempt | None:
        """Find the job of a folder that waits or runs, no matter which process submitted it."""
        attempt = self.latest(folder)
        if attempt is None:
            return None
        known_to_have_ended = attempt.record.get("state") == "ended"
        if attempt.poll() is None:
            return attempt
        if not known_to_have_ended:
            self.notify(f"attempt {attempt.number} ({attempt.label}) {attempt.ending()} in the meantime")
        return None

    def reserve(self, folder: Path) -> Path:
        """Make the folder of the next attempt, for files that must be there before it starts."""
        return reserve(folder)

    def start(self, place: Path, environment: Mapping[str, str] | None = None) -> BatchAttempt:
        """Submit the job of a reserved attempt.

        Raises
        ------
        SubmissionRefused
            The batch system does not accept it; with its own message.
        TransportDown
            The cluster could not be reached for an hour.
        """
        name = records.new_name(place.parent.parent)
        arguments = tuple(self.arguments(place.parent.parent))
        job = Job(name, place, self.step, arguments, self.ranks, {**self.environment, **(environment or {})})
        script = self.render(job)
        write_text(place / "script.sh", script)
        records.write_intent(place, name, self.system.lower())
        try:
            job_id = self._submit(name, script)
        except SubmissionRefused as error:
            records.write_end(place, 1, refused=error.what)
            raise
        records.write_id(place, job_id)
        return self._attempt(place)

    def _attempt(self, place: Path) -> BatchAttempt:
        return BatchAttempt(place, self.queue, self.system, self.patience)

    def _submitted_as(self, name: str, settled_in_s: float) -> list[JobState]:
        """Find the jobs of a name; an empty answer is believed only after `settled_in_s`."""
        # A request of the future: the clock was set back since.
        settled = time.monotonic() + min(settled_in_s, self.patience.settled_s)
        pause_s = self.patience.first_s
        while True:
            jobs = self._patiently(lambda: self.queue.find(name))
            if jobs or time.monotonic() >= settled:
                return jobs
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, self.patience.longest_s)

    def _submit(self, name: str, script: str) -> str:
        tried = False

        def submit() -> str:
            nonlocal tried
            # The answer to the first try may have been lost although the job was accepted.
            jobs = self.queue.find(name) if tried else []
            tried = True
            return jobs[-1].job_id if jobs else self.queue.submit(script)

        return self._patiently(submit)

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        """Ask until there is an answer."""
        deadline = time.monotonic() + self.patience.unreachable_s
        pause_s = self.patience.first_s
        while True:
            try:
                return ask()
            except TransportDown as error:
                if time.monotonic() > deadline:
                    raise
                self.notify(f"{error.what} The next try is in {pause_s:.0f} s.")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 2 * self.patience.longest_s)
