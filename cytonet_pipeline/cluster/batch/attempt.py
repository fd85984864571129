"""One attempt as a job of a batch system: followed through its queue, and through the files that it writes itself.

A queue that does not answer is a state and not the end of a job; if the queue has forgotten a job, the files that the
job itself wrote decide.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from cytonet_pipeline.cluster.attempt import Attempt
from cytonet_pipeline.cluster.batch import record as records
from cytonet_pipeline.cluster.batch.endings import ending_of, remedy_for
from cytonet_pipeline.cluster.batch.job_state import JobState, Phase
from cytonet_pipeline.cluster.batch.queue import BatchQueue
from cytonet_pipeline.errors import TransportDown

_log = logging.getLogger(__name__)


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
