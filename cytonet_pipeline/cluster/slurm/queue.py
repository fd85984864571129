"""Slurm's queue: submit, ask, find, cancel. An outage is never mistaken for the end of a job."""

import os
import re
import shlex
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cytonet_pipeline.cluster.queue_cache import Board
from cytonet_pipeline.cluster.slurm.messages import NO_ACCOUNTING, UNKNOWN_JOB, nobody_answered, remedy_for, words_of
from cytonet_pipeline.cluster.slurm.profile import ClusterProfile
from cytonet_pipeline.cluster.slurm.states import (
    SACCT_FORMAT,
    SQUEUE_FORMAT,
    JobState,
    Phase,
    parse_sacct,
    parse_scontrol,
    parse_squeue,
)
from cytonet_pipeline.cluster.transport import Finished, Transport, private_folder, transport_of
from cytonet_pipeline.errors import SubmissionRefused, TransportDown

# Ends that Slurm may turn into a requeue a moment later.
_PERHAPS_REQUEUED = frozenset({Phase.NODE_FAIL, Phase.PREEMPTED, Phase.BOOT_FAIL})
_SETTLES_S = 60.0
_FIRST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 120.0


@dataclass(frozen=True)
class Outage:
    """Since when the queue has not answered (seconds since 1970), and in what words."""

    since: float
    words: str

    def __str__(self) -> str:
        return (
            f"the queue has not answered since {time.strftime('%H:%M:%S', time.localtime(self.since))} ({self.words})"
        )


@dataclass(frozen=True)
class Partition:
    """What `sinfo` says of a partition, in its own words; numbers of unlike nodes end with a +."""

    walltime: str
    nodes: str
    cpus: str
    gres: str


class SlurmQueue:
    """The queue behind a transport.

    Parameters
    ----------
    transport : Transport
        Where Slurm's commands are.
    prefix : sequence of str
        Words before each of them.
    board : Board, optional
        Where the answers for all processes of this user hang.

    Attributes
    ----------
    outage : Outage or None
        Set while `states` returns what it knew last, because nobody answers.
    """

    def __init__(self, transport: Transport, prefix: Sequence[str] = (), board: Board | None = None) -> None:
        self.transport = transport
        self._board = board
        self.outage: Outage | None = None
        self._prefix = tuple(prefix)
        self._known: dict[str, JobState] = {}
        self._ended_at: dict[str, float] = {}
        self._ask_again = 0.0
        self._pause_s = _FIRST_PAUSE_S

    def submit(self, script: str) -> str:
        """Hand a job script to sbatch.

        Returns
        -------
        str
            The job's id.

        Raises
        ------
        SubmissionRefused
            Slurm does not take it; with its own words.
        TransportDown
            Nobody answered. The job may have been taken all the same: `find` its name before submitting again.
        """
        return self._sbatch(script, "--parsable").out.strip().splitlines()[-1].partition(";")[0]

    def rehearse(self, script: str) -> str:
        """Have sbatch check a job script without submitting it.

        Returns
        -------
        str
            Slurm's guess of when it would start, as `to start at 2026-11-23T20:43:53`; empty if it makes none.

        Raises
        ------
        SubmissionRefused, TransportDown
            As `submit`.
        """
        ran = self._sbatch(script, "--test-only")
        found = re.search(r"to start at \S+", ran.err + ran.out)
        return found[0] if found else ""

    def partitions(self, name: str | None = None) -> "dict[str, Partition]":
        """What a partition offers, or the default one.

        Raises
        ------
        TransportDown
            Nobody answered.
        """
        which = ("--partition", name) if name else ()
        ran = self._run("sinfo", "--noheader", "--format=%P|%l|%D|%c|%G", *which)
        if ran.code != 0:
            raise TransportDown(f"sinfo: {words_of(ran)}.")
        lines = [line.split("|") for line in ran.out.splitlines() if line.count("|") == 4]
        wanted = [line for line in lines if name or line[0].endswith("*")]
        return {line[0].rstrip("*"): Partition(*line[1:]) for line in wanted}

    def states(self, ids: Iterable[str]) -> dict[str, JobState | None]:
        """How jobs stand: one call of squeue for all that have not ended, then accounting for what it does not know.

        While nobody answers, this returns what was known last (`UNKNOWN` where nothing was), says so in `outage` and
        asks again with growing pauses. It never raises for an outage.

        Returns
        -------
        dict
            None for a job that nobody knows, though all answered: never submitted here, or forgotten.
        """
        wanted = list(dict.fromkeys(ids))
        asked = [job_id for job_id in wanted if not self._over(job_id)]
        if not asked:
            return {job_id: self._known[job_id] for job_id in wanted}
        found: dict[str, JobState] = {}
        if time.monotonic() >= self._ask_again:
            try:
                found = self._ask(asked)
            except TransportDown as error:
                self._silent(error.what)
            else:
                self.outage, self._pause_s = None, _FIRST_PAUSE_S
        found = {job_id: self._settled(job) for job_id, job in found.items()}
        if self.outage is None:
            self._known.update(found)
            return {job_id: self._known[job_id] if self._over(job_id) else found.get(job_id) for job_id in wanted}
        unknown = JobState("", reason=str(self.outage))
        return {job_id: self._known.get(job_id, replace(unknown, job_id=job_id)) for job_id in wanted}

    def find(self, name: str) -> list[JobState]:
        """Jobs of a name, also those that have ended, the latest last.

        Accounting learns of a job seconds after the queue; a site whose queue forgets at once could hide one as long.

        Raises
        ------
        TransportDown
            Nobody answered. That nothing was found would then mean nothing.
        """
        jobs = parse_squeue(self._squeue("--name", name))
        accounted = self._sacct("--allocations", "--name", name, "--starttime", "now-60days") or {}
        merged = [_merged(jobs.get(key), accounted.get(key)) for key in {**accounted, **jobs}]
        return sorted(
            (job for job in merged if job and job.name == name), key=lambda job: int(job.job_id.partition("_")[0])
        )

    def cancel(self, job_id: str) -> None:
        """Cancel a job; one that is over stays as it is.

        Raises
        ------
        TransportDown
            Nobody answered; it may still run.
        """
        ran = self._run("scancel", job_id)
        if ran.code != 0 and UNKNOWN_JOB not in ran.err.lower():
            raise TransportDown(f"scancel {job_id}: {words_of(ran)}.")

    def version(self) -> str:
        """Version of Slurm's commands, as `22.05.8`.

        Raises
        ------
        TransportDown
            There is none, or it does not answer.
        """
        ran = self._run("squeue", "--version")
        if ran.code != 0:
            raise TransportDown(f"squeue: {words_of(ran)}.", to_fix=remedy_for(words_of(ran)))
        return ran.out.split()[-1]

    def _sbatch(self, script: str, option: str) -> Finished:
        # Once more on the command line: variables as SBATCH_PARTITION win against the script, but not against it.
        directives = [line[8:] for line in script.splitlines() if line.startswith("#SBATCH ")]
        options = [word for directive in directives for word in shlex.split(directive)]
        ran = self._run("sbatch", option, *options, stdin=script)
        if ran.code == 0 and (ran.out.strip() or option != "--parsable"):
            return ran
        words = words_of(ran)
        if nobody_answered(ran):
            raise TransportDown(f"sbatch: {words}.")
        raise SubmissionRefused(f"Slurm refuses the job: {words}.", to_fix=remedy_for(words))

    def _over(self, job_id: str) -> bool:
        return job_id in self._known and self._known[job_id].ended

    def _settled(self, job: JobState) -> JobState:
        """A job whose node has failed, or that was preempted, counts as ended only when it stays so for a while."""
        if job.phase not in _PERHAPS_REQUEUED:
            self._ended_at.pop(job.job_id, None)
            return job
        if time.monotonic() - self._ended_at.setdefault(job.job_id, time.monotonic()) >= _SETTLES_S:
            return job
        return replace(job, phase=Phase.REQUEUED, reason=f"{job.phase}, perhaps to be requeued")

    def _ask(self, ids: list[str]) -> dict[str, JobState]:
        said = self._board.answer(ids, self._list_jobs) if self._board else self._list_jobs(ids)
        listed = parse_squeue(said)
        jobs = {job_id: listed[job_id] for job_id in ids if job_id in listed}
        # Who cancelled, and that a step ran out of memory, is known to accounting alone.
        unclear = [key for key in ids if key not in jobs or jobs[key].phase in (Phase.CANCELLED, Phase.FAILED)]
        if not unclear:
            return jobs
        lost = [key for key in unclear if key not in jobs]
        try:
            accounted = self._sacct("--jobs", ",".join(unclear))
        except TransportDown:
            if lost:
                raise
            accounted = {}
        if accounted is None:
            accounted = self._scontrol(lost)
        merged = {key: _merged(jobs.get(key), accounted.get(key)) for key in {**jobs, **accounted}}
        return {key: job for key, job in merged.items() if job}

    def _list_jobs(self, ids: list[str]) -> str:
        return self._squeue("--jobs", ",".join(ids))

    def _squeue(self, *which: str) -> str:
        ran = self._run("squeue", "--noheader", "--states=all", f"--Format={SQUEUE_FORMAT}", *which)
        if ran.code != 0 and UNKNOWN_JOB in ran.err.lower():
            return ""
        if ran.code != 0:
            raise TransportDown(f"squeue: {words_of(ran)}")
        return ran.out

    def _sacct(self, *which: str) -> dict[str, JobState] | None:
        """Jobs that accounting knows; None where there is no accounting."""
        ran = self._run("sacct", "--noheader", "--parsable2", f"--format={SACCT_FORMAT}", *which)
        if ran.code != 0:
            if NO_ACCOUNTING in (ran.out + ran.err).lower():
                return None
            raise TransportDown(f"sacct: {words_of(ran)}")
        return parse_sacct(ran.out)

    def _scontrol(self, ids: list[str]) -> dict[str, JobState]:
        jobs: dict[str, JobState] = {}
        for job_id in ids:
            ran = self._run("scontrol", "--oneliner", "show", "job", job_id)
            if ran.code != 0 and UNKNOWN_JOB not in ran.err.lower():
                raise TransportDown(f"scontrol: {words_of(ran)}")
            jobs |= parse_scontrol(ran.out)
        return jobs

    def _silent(self, words: str) -> None:
        self.outage = Outage(self.outage.since if self.outage else time.time(), words.rstrip("."))
        self._ask_again = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def _run(self, *command: str, stdin: str | None = None) -> Finished:
        return self.transport.run([*self._prefix, *command], stdin=stdin)


def queue_of(profile: ClusterProfile) -> SlurmQueue:
    """The queue of a cluster profile; all processes of this user on this machine share what squeue says."""
    here = [shutil.which("squeue") or "", os.environ.get("SLURM_CONF", "")] if not profile.host else []
    cluster = "\n".join([profile.host or "", str(profile.ssh_config), *profile.slurm_prefix, *here])
    return SlurmQueue(transport_of(profile), profile.slurm_prefix, Board(private_folder(), cluster))


def _merged(queued: JobState | None, accounted: JobState | None) -> JobState | None:
    """What squeue and accounting say of one job together; squeue is the newer one."""
    if queued is None and accounted is not None and not accounted.ended:
        # Accounting lags behind, or never heard of the end.
        reason = f"the queue does not know it any more, accounting still says {accounted.phase}"
        return replace(accounted, phase=Phase.UNKNOWN, reason=reason)
    if queued is None or accounted is None:
        return queued or accounted
    short_of_memory = queued.phase is Phase.FAILED and accounted.phase is Phase.OUT_OF_MEMORY
    phase = Phase.OUT_OF_MEMORY if short_of_memory else queued.phase
    return replace(queued, phase=phase, by=accounted.by, gpus=queued.gpus or accounted.gpus)
