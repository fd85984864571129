"""Trainings and other long steps as Slurm jobs, with the same surface as the launcher of this machine.

A job belongs to nobody's process: whoever comes later finds it by its record in the store, waiting, running or ended
meanwhile. That nobody answers is a state and not the end of a job; the files that the job itself writes are believed
where the queue has forgotten it.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from cytonet_pipeline.cluster import job as records
from cytonet_pipeline.cluster.attempt import TRAINING, Attempt, last_attempt, read_json, reserve
from cytonet_pipeline.cluster.endings import ending_of, remedy_for
from cytonet_pipeline.cluster.slurm.profile import ClusterProfile
from cytonet_pipeline.cluster.slurm.queue import SlurmQueue, queue_of
from cytonet_pipeline.cluster.slurm.script import Job, render
from cytonet_pipeline.cluster.slurm.states import JobState, Phase
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
    # Whoever submits may be killed while `sbatch` still talks: what is not in the queue now may be in a minute.
    settled_s: float = 75.0


@dataclass
class SlurmAttempt(Attempt):
    """One submission; requeues are restarts of the same one."""

    queue: SlurmQueue
    patience: Patience = Patience()
    _ask_at: float = 0.0
    _pause_s: float = 0.0
    _events_size: int = 0
    _forgotten_at: float | None = None
    _said: str = ""
    _outage: str = ""
    _news: list[str] = field(default_factory=list)

    @property
    def job_id(self) -> str:
        """Slurm's number of the job."""
        return str(self.record.get("job_id", ""))

    @property
    def label(self) -> str:
        """What runs, in words for people."""
        return f"Slurm job {self.job_id}"

    @property
    def survives(self) -> bool:
        """A job goes on whoever follows it."""
        return True

    def tags(self) -> dict[str, str]:
        """What a Dagster run is tagged with."""
        return {"cytonet/slurm_job": self.job_id, "cytonet/slurm_job_name": str(self.record.get("name", ""))}

    def news(self) -> list[str]:
        """Lines about what has changed since the last call: phases with the queue's reason, outages, restarts."""
        told, self._news = self._news, []
        return told

    def poll(self) -> int | None:
        """See `Attempt.poll`; asks the queue with growing pauses, and writes down what it says."""
        record = self.record
        if record.get("state") == "ended":
            self._note_end(record)
            return int(record["exit_code"])
        if time.monotonic() < self._ask_at and not self._stirred():
            return None
        state = self.queue.states([self.job_id])[self.job_id]
        self._note_outage()
        code = self._forgotten() if state is None else self._standing(state)
        self._pause_s = min(max(self._pause_s * self.patience.growth, self.patience.first_s), self.patience.longest_s)
        self._ask_at = time.monotonic() + self._pause_s
        return code

    def terminate(self, grace_s: float = 60.0, who: str = "") -> int:
        """See `Attempt.terminate`: scancel; its ranks have the time that the site gives them for a checkpoint."""
        records.write_canceller(self.place, who or "whoever followed it")
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
        """How it ended, as the end of a sentence that starts with the attempt."""
        self.poll()
        return ending_of(self.record, self.place)

    def remedy(self) -> str:
        """What to do about an attempt that failed."""
        return remedy_for(self.record) or super().remedy()

    def _stirred(self) -> bool:
        """Whether the job itself has written something since the queue was asked: a look into a file costs nothing."""
        try:
            size = (self.place / "events.jsonl").stat().st_size
        except OSError:
            size = 0
        changed, self._events_size = size != self._events_size, size
        if changed:
            self._pause_s = 0.0
        return changed

    def _standing(self, state: JobState) -> int | None:
        self._forgotten_at = None
        if str(state) != self._said and not self.queue.outage:
            self._news.append(str(state))
            self._said, self._pause_s = str(state), 0.0
            records.write_state(self.place, state)
        if not state.ended:
            return None
        code = 0 if state.phase is Phase.COMPLETED else (state.exit_code or 1)
        records.write_end(self.place, code, state)
        return code

    def _forgotten(self) -> int | None:
        """Nobody knows the job any more: its own script has the last word."""
        ran = records.starts(self.place)
        if ran and ran[-1]["exit_code"] is not None and not ran[-1]["requeued"]:
            code = int(ran[-1]["exit_code"])
            records.write_end(self.place, code, phase=str(Phase.FAILED if code else Phase.COMPLETED))
            return code
        now = time.monotonic()
        self._forgotten_at = self._forgotten_at or now
        if now - self._forgotten_at < self.patience.forgotten_s:
            return None
        code = 0 if self.progress().get("state") == "done" else 1
        lost = "is not known to Slurm any more, and never said how it ended"
        records.write_end(self.place, code, phase=str(Phase.UNKNOWN), lost=lost)
        return code

    def _note_end(self, record: Mapping[str, object]) -> None:
        """Also news when another run that follows the job has written it down first."""
        told = f"job {record.get('job_id')} {record.get('phase')}"
        if self._said and not self._said.startswith(told):
            self._news.append(told)
            self._said = told

    def _note_outage(self) -> None:
        outage = str(self.queue.outage) if self.queue.outage else ""
        # The words may change while it lasts; that it began and that it is over is news.
        if bool(outage) != bool(self._outage):
            self._news.append(f"{outage}; the job goes on meanwhile" if outage else "the queue answers again")
        self._outage = outage


class SlurmLauncher:
    """Submits jobs, or finds those that are there already.

    Parameters
    ----------
    profile : ClusterProfile
        The site.
    words : callable
        Python module and arguments for a folder.
    step : str
        Whose resources of the profile the jobs get.
    ranks : int
        Processes a node under the profile's launcher; 0: one process without it.
    environment : mapping
        Variables of every job.
    tell : callable
        Gets a line when a submission has to wait for the cluster.
    """

    def __init__(
        self,
        profile: ClusterProfile,
        words: Callable[[Path], list[str]],
        *,
        step: str = "encoder",
        ranks: int = 0,
        environment: Mapping[str, str] | None = None,
        queue: SlurmQueue | None = None,
        patience: Patience | None = None,
        tell: Callable[[str], None] = _log.warning,
    ) -> None:
        self.profile, self.words, self.step, self.ranks = profile, words, step, ranks
        self.environment = dict(environment or {})
        self.queue = queue or queue_of(profile)
        self.patience = patience or Patience()
        self.tell = tell

    def latest(self, folder: Path) -> SlurmAttempt | None:
        """The last submission of a folder, also one that has ended; one that died before its id was written is found.

        Raises
        ------
        TransportDown
            Whether it was submitted cannot be found out, for an hour.
        """
        place = last_attempt(folder)
        record = read_json(place / "job.json") if place else {}
        if place is None or record.get("cluster") != "slurm":
            return None
        if record["state"] == "intended":
            found = self._submitted_as(record["name"], record["started"] + self.patience.settled_s)
            if not found:
                records.write_end(place, 1, refused="its submission was interrupted")
                return None
            records.write_id(place, found[-1].job_id)
        return SlurmAttempt(place, self.queue, self.patience)

    def _submitted_as(self, name: str, settled: float) -> list[JobState]:
        """Jobs of a name; that there is none is believed from the time `settled` on."""
        pause_s = self.patience.first_s
        while True:
            found = self._patiently(lambda: self.queue.find(name))
            if found or time.time() >= settled:
                return found
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, self.patience.longest_s)

    def running(self, folder: Path) -> SlurmAttempt | None:
        """The job of a folder that waits or runs, whoever submitted it."""
        attempt = self.latest(folder)
        if attempt is None:
            return None
        known_to_have_ended = attempt.record.get("state") == "ended"
        if attempt.poll() is None:
            return attempt
        if not known_to_have_ended:
            self.tell(f"attempt {attempt.number} ({attempt.label}) meanwhile {attempt.ending()}")
        return None

    def reserve(self, folder: Path) -> Path:
        """Make the folder of the next attempt, for files that must be there before it starts."""
        return reserve(folder)

    def start(self, place: Path, environment: Mapping[str, str] | None = None) -> SlurmAttempt:
        """Submit the job of a reserved attempt.

        Raises
        ------
        SubmissionRefused
            Slurm does not take it; with its own words.
        TransportDown
            The cluster could not be reached for an hour.
        """
        name = records.new_name(place.parent.parent)
        words = tuple(self.words(place.parent.parent))
        job = Job(name, place, self.step, words, self.ranks, {**self.environment, **(environment or {})})
        script = render(job, self.profile)
        write_text(place / "script.sh", script)
        records.write_intent(place, name)
        try:
            job_id = self._submit(name, script)
        except SubmissionRefused as error:
            records.write_end(place, 1, refused=error.what)
            raise
        records.write_id(place, job_id)
        return SlurmAttempt(place, self.queue, self.patience)

    def _submit(self, name: str, script: str) -> str:
        tried = False

        def submit() -> str:
            nonlocal tried
            # An answer that got lost may have been a yes.
            found = self.queue.find(name) if tried else []
            tried = True
            return found[-1].job_id if found else self.queue.submit(script)

        return self._patiently(submit)

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        """Ask until somebody answers."""
        deadline = time.monotonic() + self.patience.unreachable_s
        pause_s = self.patience.first_s
        while True:
            try:
                return ask()
            except TransportDown as error:
                if time.monotonic() > deadline:
                    raise
                self.tell(f"{error.what} It is tried again in {pause_s:.0f} s.")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 2 * self.patience.longest_s)


def training_launcher(data: Path, profile: ClusterProfile, tell: Callable[[str], None] = _log.warning) -> SlurmLauncher:
    """The launcher of trainings: as many ranks a node as GPUs."""
    resources = profile.resources("encoder")
    ranks = max(resources.gpus_per_node, 1)
    threads = max((resources.cpus_per_task or 0) // ranks, 1)

    def words(folder: Path) -> list[str]:
        packs = ["--packed", profile.packs] if profile.packs else []
        # One thread a rank is torchrun's choice where nobody knows how many cores there are.
        return [TRAINING, str(folder), "--data", str(data), "--threads", str(threads), *packs]

    environment = {"OMP_NUM_THREADS": str(threads)}
    return SlurmLauncher(profile, words, ranks=ranks, environment=environment, tell=tell)
