"""The queue of a batch system: submit, ask, find, cancel. An outage is never mistaken for the end of a job."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace

from cytonet_pipeline.cluster.batch.job_state import JobState, Phase
from cytonet_pipeline.errors import TransportDown

# Ends that a batch system may turn into a requeue a moment later.
_MAY_BE_REQUEUED = frozenset({Phase.NODE_FAIL, Phase.PREEMPTED, Phase.BOOT_FAIL})
_SETTLES_S = 60.0
_FIRST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 120.0


@dataclass(frozen=True)
class Outage:
    """Since when the queue has not answered (seconds since 1970), and the message of the last failure."""

    since: float
    message: str

    def __str__(self) -> str:
        since = time.strftime("%H:%M:%S", time.localtime(self.since))
        return f"the queue has not answered since {since} ({self.message})"


class BatchQueue(ABC):
    """What is common to the queues of all batch systems: what was known last, outages, pauses between questions.

    Attributes
    ----------
    outage : Outage or None
        Set while `states` returns what it knew last because the queue does not answer.
    """

    def __init__(self) -> None:
        self.outage: Outage | None = None
        self._known: dict[str, JobState] = {}
        self._ended_at: dict[str, float] = {}
        self._ask_again = 0.0
        self._pause_s = _FIRST_PAUSE_S

    @abstractmethod
    def submit(self, script: str) -> str:
        """Submit a job script.

        Returns
        -------
        str
            The job's id.

        Raises
        ------
        SubmissionRefused
            The batch system does not accept it; with its own message.
        TransportDown
            No answer. The job may have been accepted all the same: `find` its name before submitting again.
        """

    @abstractmethod
    def find(self, name: str) -> list[JobState]:
        """Find the jobs of a name, including those that have ended, the latest last.

        Raises
        ------
        TransportDown
            No answer; that there is no such job must not be concluded.
        """

    @abstractmethod
    def cancel(self, job_id: str) -> None:
        """Cancel a job; one that is over stays as it is.

        Raises
        ------
        TransportDown
            No answer; it may still run.
        """

    @abstractmethod
    def ask(self, ids: list[str]) -> dict[str, JobState]:
        """Ask the batch system for the states of jobs, in as few calls as possible; unknown jobs are left out.

        Raises
        ------
        TransportDown
            No answer.
        """

    def states(self, ids: Iterable[str]) -> dict[str, JobState | None]:
        """Look up the states of jobs; those that have ended are not asked about again.

        While the queue does not answer, this returns what was known last (`UNKNOWN` if nothing was), sets `outage` and
        asks again with growing pauses. It never raises for an outage.

        Returns
        -------
        dict
            None for a job that the batch system does not know although it answered: never submitted there, or
            forgotten.
        """
        wanted = list(dict.fromkeys(ids))
        unfinished = [job_id for job_id in wanted if not self._is_over(job_id)]
        if not unfinished:
            return {job_id: self._known[job_id] for job_id in wanted}
        answered: dict[str, JobState] = {}
        if time.monotonic() >= self._ask_again:
            try:
                answered = self.ask(unfinished)
            except TransportDown as error:
                self._note_outage(error.what)
            else:
                self.outage, self._pause_s = None, _FIRST_PAUSE_S
        answered = {job_id: self._settle(job) for job_id, job in answered.items()}
        if self.outage is None:
            self._known.update(answered)
            return {job_id: self._known[job_id] if self._is_over(job_id) else answered.get(job_id) for job_id in wanted}
        unknown = JobState("", reason=str(self.outage))
        return {job_id: self._known.get(job_id, replace(unknown, job_id=job_id)) for job_id in wanted}

    def _is_over(self, job_id: str) -> bool:
        return job_id in self._known and self._known[job_id].ended

    def _settle(self, job: JobState) -> JobState:
        """Count a job whose node failed, or that was preempted, as ended only after it has stayed so for a while."""
        if job.phase not in _MAY_BE_REQUEUED:
            self._ended_at.pop(job.job_id, None)
            return job
        if time.monotonic() - self._ended_at.setdefault(job.job_id, time.monotonic()) >= _SETTLES_S:
            return job
        return replace(job, phase=Phase.REQUEUED, reason=f"{job.phase}, may be requeued")

    def _note_outage(self, message: str) -> None:
        self.outage = Outage(self.outage.since if self.outage else time.time(), message.rstrip("."))
        self._ask_again = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
