"""Training and other long steps as jobs of a batch system, with the same interface as the launcher of this machine.

A job does not belong to the process that submitted it: a later process finds it by its record in the store, whether it
waits, runs or has ended meanwhile. A queue that does not answer is a state and not the end of a job; if the queue has
forgotten a job, the files that the job itself wrote decide. What is particular to one batch system (commands, job
script) is given to the launcher as its queue and its renderer.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from cytonet_pipeline.cluster import job as records
from cytonet_pipeline.cluster.attempt import Attempt, last_attempt, read_json, reserve
from cytonet_pipeline.cluster.backend import Notify
from cytonet_pipeline.cluster.endings import ending_of, remedy_for
from cytonet_pipeline.cluster.job_state import JobState, Phase
from cytonet_pipeline.cluster.queue import BatchQueue
from cytonet_pipeline.errors import SubmissionRefused, TransportDown
from cytonet_pipeline.store import write_text

_log = logging.getLogger(__name__)
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Patience:
    """How often the queue is asked, and how long anything is waited for (s)."""

    first_s: float = 1.0
    growth: float = 1.4
    longest_s: float = 30.0
    unreachable_s: float = 3600.0
    forgotten_s: float = 90.0
    # The submitting process may be killed while the submission is still under way: a job that is not in the queue now
    # may be there in a minute.
    settled_s: float = 75.0


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


@dataclass
class BatchAttempt(Attempt):
    """One submission; requeues are restarts of the same one.

    Attributes
    ----------
    system : str
        Name of the batch system for people, as labels and errors show it.
    """

    queue: BatchQueue
    system: str
    patience: Patience = Patience()
    _ask_at: float = 0.0
    _pause_s: float = 0.0
    _events_size: int = 0
    _forgotten_at: float | None = None
    _last_state: str = ""
    _outage: str = ""
    _changes: list[str] = field(default_factory=list)

    @property
    def job_id(self) -> str:
        """The batch system's id of the job."""
        return str(self.record.get("job_id", ""))

    @property
    def label(self) -> str:
        """Name for people: batch system and job id."""
        return f"{self.system} job {self.job_id}"

    @property
    def survives(self) -> bool:
        """A job goes on without the process that follows it."""
        return True

    def tags(self) -> dict[str, str]:
        """Return the tags of a Dagster run that follows it."""
        key = f"cytonet/{self.system.lower()}_job"
        return {key: self.job_id, f"{key}_name": str(self.record.get("name", ""))}

    def changes(self) -> list[str]:
        """Return lines about what has changed: phases with the queue's reason, outages, restarts."""
        changes, self._changes = self._changes, []
        return changes

    def poll(self) -> int | None:
        """See `Attempt.poll`; asks the queue with growing pauses, and records its answers."""
        record = self.record
        if record.get("state") == "ended":
            self._note_end(record)
            return int(record["exit_code"])
        if time.monotonic() < self._ask_at and not self._has_new_events():
            return None
        state = self.queue.states([self.job_id])[self.job_id]
        self._note_outage()
        code = self._judge_forgotten() if state is None else self._record_state(state)
        self._pause_s = min(max(self._pause_s * self.patience.growth, self.patience.first_s), self.patience.longest_s)
        self._ask_at = time.monotonic() + self._pause_s
        return code

    def terminate(self, grace_s: float = 60.0, who: str = "") -> int:
        """See `Attempt.terminate`: cancels the job; its ranks get the time that the site allows for a checkpoint."""
        records.write_canceller(self.place, who or "the process that followed it")
        deadline = time.monotonic() + grace_s
        while True:
            try:
                self.queue.cancel(self.job_id)
                break
            except TransportDown as error:
                if time.monotonic() > deadline:
                    _log.error("%s was not cancelled: %s", self.label, error.what)
                    return 1
                time.sleep(1.0)
        while time.monotonic() < deadline:
            self._ask_at = 0.0
            if (code := self.poll()) is not None:
                return code
            time.sleep(0.2)
        return 1

    def ending(self) -> str:
        """Say how it ended: the end of a sentence that starts with the attempt."""
        self.poll()
        return ending_of(self.record, self.place)

    def remedy(self) -> str:
        """Say what to do about an attempt that failed."""
        return remedy_for(self.record) or super().remedy()

    def _has_new_events(self) -> bool:
        """Tell whether the job has written an event since the queue was asked; a file may be read often, unlike it."""
        try:
            size = (self.place / "events.jsonl").stat().st_size
        except OSError:
            size = 0
        changed, self._events_size = size != self._events_size, size
        if changed:
            self._pause_s = 0.0
        return changed

    def _record_state(self, state: JobState) -> int | None:
        self._forgotten_at = None
        if str(state) != self._last_state and not self.queue.outage:
            self._changes.append(str(state))
            self._last_state, self._pause_s = str(state), 0.0
            records.write_state(self.place, state)
        if not state.ended:
            return None
        code = 0 if state.phase is Phase.COMPLETED else (state.exit_code or 1)
        records.write_end(self.place, code, state)
        return code

    def _judge_forgotten(self) -> int | None:
        """Decide about a job that the batch system does not know any more, by what its own script wrote."""
        runs = records.starts(self.place)
        if runs and runs[-1]["exit_code"] is not None and not runs[-1]["requeued"]:
            code = int(runs[-1]["exit_code"])
            records.write_end(self.place, code, phase=str(Phase.FAILED if code else Phase.COMPLETED))
            return code
        now = time.monotonic()
        self._forgotten_at = self._forgotten_at or now
        if now - self._forgotten_at < self.patience.forgotten_s:
            return None
        code = 0 if self.progress().get("state") == "done" else 1
        lost = f"is not known to {self.system} any more, and never reported how it ended"
        records.write_end(self.place, code, phase=str(Phase.UNKNOWN), lost=lost)
        return code

    def _note_end(self, record: Mapping[str, object]) -> None:
        """Report the end as a change even if another run that follows the job has recorded it first."""
        state = f"job {record.get('job_id')} {record.get('phase')}"
        if self._last_state and not self._last_state.startswith(state):
            self._changes.append(state)
            self._last_state = state

    def _note_outage(self) -> None:
        outage = str(self.queue.outage) if self.queue.outage else ""
        # The message may change while it lasts; only its beginning and its end are reported.
        if bool(outage) != bool(self._outage):
            self._changes.append(f"{outage}; the job goes on meanwhile" if outage else "the queue answers again")
        self._outage = outage


class BatchLauncher:
    """Submits jobs, or finds those that are there already.

    Parameters
    ----------
    system : str
        Name of the batch system for people; in lower case it is the back-end's key and the `cluster` of a job's record.
    queue : BatchQueue
        Its queue.
    render : callable
        Writes the script of a job.
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
            jobs = self._submitted_as(record["name"], record["started"] + self.patience.settled_s)
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

    def _submitted_as(self, name: str, settled: float) -> list[JobState]:
        """Find the jobs of a name; only after the time `settled` an empty answer is believed."""
        pause_s = self.patience.first_s
        while True:
            jobs = self._patiently(lambda: self.queue.find(name))
            if jobs or time.time() >= settled:
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
