"""Slurm's queue: its commands, and what becomes of their answers."""

import os
import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cytonet_pipeline.cluster.batch.job_state import JobState, Phase
from cytonet_pipeline.cluster.batch.queue import BatchQueue
from cytonet_pipeline.cluster.batch.queue_cache import QueueCache
from cytonet_pipeline.cluster.batch.transport import Finished, Transport, private_folder, transport_to
from cytonet_pipeline.cluster.slurm.messages import NO_ACCOUNTING, UNKNOWN_JOB, is_outage, message_of, remedy_for
from cytonet_pipeline.cluster.slurm.output import (
    SACCT_FORMAT,
    SQUEUE_FORMAT,
    parse_sacct,
    parse_scontrol,
    parse_squeue,
)
from cytonet_pipeline.cluster.slurm.profile import ClusterProfile
from cytonet_pipeline.errors import SubmissionRefused, TransportDown


@dataclass(frozen=True)
class Partition:
    """A partition as `sinfo` describes it, as text; numbers of unlike nodes end with a +."""

    walltime: str
    nodes: str
    cpus: str
    gres: str


class SlurmQueue(BatchQueue):
    """The queue behind a transport.

    Parameters
    ----------
    transport : Transport
        Where Slurm's commands are.
    prefix : sequence of str
        Words before each of them.
    cache : QueueCache, optional
        Answers of squeue that all processes of this user share.
    """

    def __init__(self, transport: Transport, prefix: Sequence[str] = (), cache: QueueCache | None = None) -> None:
        super().__init__()
        self.transport = transport
        self._cache = cache
        self._prefix = tuple(prefix)

    def submit(self, script: str) -> str:
        """See `BatchQueue.submit`."""
        return self._sbatch(script, "--parsable").out.strip().splitlines()[-1].partition(";")[0]

    def rehearse(self, script: str) -> str:
        """Have sbatch check a job script without submitting it.

        Returns
        -------
        str
            Slurm's estimate of the start, such as `to start at 2026-11-23T20:43:53`; empty if it gives none.

        Raises
        ------
        SubmissionRefused, TransportDown
            As `submit`.
        """
        ran = self._sbatch(script, "--test-only")
        estimate = re.search(r"to start at \S+", ran.err + ran.out)
        return estimate[0] if estimate else ""

    def partitions(self, name: str | None = None) -> dict[str, Partition]:
        """Describe a partition; default: the cluster's default one.

        Raises
        ------
        TransportDown
            No answer.
        """
        which = ("--partition", name) if name else ()
        ran = self._run("sinfo", "--noheader", "--format=%P|%l|%D|%c|%G", *which)
        if ran.code != 0:
            raise TransportDown(f"sinfo: {message_of(ran)}.")
        lines = [line.split("|") for line in ran.out.splitlines() if line.count("|") == 4]
        wanted = [line for line in lines if name or line[0].endswith("*")]
        return {line[0].rstrip("*"): Partition(*line[1:]) for line in wanted}

    def find(self, name: str) -> list[JobState]:
        """See `BatchQueue.find`.

        Accounting learns of a job seconds after the queue; if the queue forgets at once, the job is hidden as long.
        """
        jobs = parse_squeue(self._squeue("--name", name))
        accounted = self._sacct("--allocations", "--name", name, "--starttime", "now-60days") or {}
        merged = [_merged(jobs.get(key), accounted.get(key)) for key in {**accounted, **jobs}]
        return sorted(
            (job for job in merged if job and job.name == name), key=lambda job: int(job.job_id.partition("_")[0])
        )

    def cancel(self, job_id: str) -> None:
        """See `BatchQueue.cancel`."""
        ran = self._run("scancel", job_id)
        if ran.code != 0 and UNKNOWN_JOB not in ran.err.lower():
            raise TransportDown(f"scancel {job_id}: {message_of(ran)}.")

    def version(self) -> str:
        """Return the version of Slurm's commands, such as `22.05.8`.

        Raises
        ------
        TransportDown
            There is no such command, or no answer.
        """
        ran = self._run("squeue", "--version")
        if ran.code != 0:
            raise TransportDown(f"squeue: {message_of(ran)}.", to_fix=remedy_for(message_of(ran)))
        return ran.out.split()[-1]

    def _sbatch(self, script: str, option: str) -> Finished:
        # Directives are repeated on the command line, which wins against variables such as SBATCH_PARTITION; the script
        # does not.
        directives = [line[8:] for line in script.splitlines() if line.startswith("#SBATCH ")]
        options = [word for directive in directives for word in shlex.split(directive)]
        ran = self._run("sbatch", option, *options, stdin=script)
        if ran.code == 0 and (ran.out.strip() or option != "--parsable"):
            return ran
        message = message_of(ran)
        if is_outage(ran):
            raise TransportDown(f"sbatch: {message}.")
        raise SubmissionRefused(f"Slurm refuses the job: {message}.", to_fix=remedy_for(message))

    def ask(self, ids: list[str]) -> dict[str, JobState]:
        """See `BatchQueue.ask`: one call of squeue, then accounting for the jobs that squeue does not know."""
        listed = parse_squeue(self._cache.answer(ids, self._list_jobs) if self._cache else self._list_jobs(ids))
        jobs = {job_id: listed[job_id] for job_id in ids if job_id in listed}
        # Only accounting knows who cancelled a job, and that a step ran out of memory.
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
            raise TransportDown(f"squeue: {message_of(ran)}")
        return ran.out

    def _sacct(self, *which: str) -> dict[str, JobState] | None:
        """Ask accounting; None if the cluster has none."""
        ran = self._run("sacct", "--noheader", "--parsable2", f"--format={SACCT_FORMAT}", *which)
        if ran.code != 0:
            if NO_ACCOUNTING in (ran.out + ran.err).lower():
                return None
            raise TransportDown(f"sacct: {message_of(ran)}")
        return parse_sacct(ran.out)

    def _scontrol(self, ids: list[str]) -> dict[str, JobState]:
        jobs: dict[str, JobState] = {}
        for job_id in ids:
            ran = self._run("scontrol", "--oneliner", "show", "job", job_id)
            if ran.code != 0 and UNKNOWN_JOB not in ran.err.lower():
                raise TransportDown(f"scontrol: {message_of(ran)}")
            jobs |= parse_scontrol(ran.out)
        return jobs

    def _run(self, *command: str, stdin: str | None = None) -> Finished:
        return self.transport.run([*self._prefix, *command], stdin=stdin)


def queue_of(profile: ClusterProfile) -> SlurmQueue:
    """Make the queue of a cluster profile; all processes of this user on this machine share the answers of squeue."""
    here = [shutil.which("squeue") or "", os.environ.get("SLURM_CONF", "")] if not profile.host else []
    cluster = "\n".join([profile.host or "", str(profile.ssh_config), *profile.slurm_prefix, *here])
    return SlurmQueue(
        transport_to(profile.host, profile.ssh_config), profile.slurm_prefix, QueueCache(private_folder(), cluster)
    )


def _merged(queued: JobState | None, accounted: JobState | None) -> JobState | None:
    """Combine the answers of squeue and accounting about one job; squeue's is the newer one."""
    if queued is None and accounted is not None and not accounted.ended:
        # Accounting lags behind, or never received the end.
        reason = f"the queue does not know it any more, accounting still has it as {accounted.phase}"
        return replace(accounted, phase=Phase.UNKNOWN, reason=reason)
    if queued is None or accounted is None:
        return queued or accounted
    short_of_memory = queued.phase is Phase.FAILED and accounted.phase is Phase.OUT_OF_MEMORY
    phase = Phase.OUT_OF_MEMORY if short_of_memory else queued.phase
    return replace(queued, phase=phase, by=accounted.by, gpus=queued.gpus or accounted.gpus)
