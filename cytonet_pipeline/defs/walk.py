"""Materialise the whole pipeline without a browser: reference, brains, encoders, table.

No Dagster job spans two partition sets, so the jobs are walked in the order of the asset graph, with one run per
partition. The stages say what is current. A failure of one brain or encoder does not stop the others.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import dagster as dg

from cytonet_pipeline import progress
from cytonet_pipeline.defs.dagster_internals import assets_in_order, assets_of, named_jobs
from cytonet_pipeline.defs.instance import fail_orphaned_runs, local_pools
from cytonet_pipeline.defs.job_run import RunSummary, WalkedJob, bring_up_to_date
from cytonet_pipeline.defs.partitions import brains
from cytonet_pipeline.defs.workers import Workers
from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import stage_of
from cytonet_pipeline.stages.stage import PartitionSet


@dataclass(frozen=True)
class PlannedRun:
    """A run of a job for one partition.

    Attributes
    ----------
    after : frozenset of str
        Labels of the runs that it has to wait for.
    long : bool
        It trains an encoder, which takes longer than all else.
    """

    job: WalkedJob
    partition: str | None
    after: frozenset[str]
    long: bool = False

    @property
    def label(self) -> str:
        """Name for people."""
        return self.job.label(self.partition)


def jobs_in_order(defs: dg.Definitions) -> list[WalkedJob]:
    """Return the jobs in the order of the asset graph: each after all that it depends on."""
    order = assets_in_order(defs)
    jobs = []
    for job in named_jobs(defs):
        assets = tuple(asset for asset in order if asset in assets_of(job))
        jobs.append(WalkedJob(job.name, assets, stage_of(assets[0]).partition_set))
    return sorted(jobs, key=lambda job: order.index(job.assets[0]))


def walk(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    settings: Settings,
    *,
    brain_names: Sequence[str],
    encoder_names: Sequence[str],
    workers: Workers | None = None,
) -> RunSummary:
    """Materialise whatever is not current.

    Parameters
    ----------
    brain_names, encoder_names : sequences of str
        Partitions to bring up to date. Brains are added to the dynamic set.
    workers : Workers, optional
        Processes that work on brains, and then on encoders, side by side; default: one after the other, in this one.

    Returns
    -------
    RunSummary
        Failures are in it, not raised.
    """
    fail_orphaned_runs(instance)
    encoder_names = ancestors_first(settings, encoder_names)
    instance.add_dynamic_partitions(str(brains.name), list(brain_names))
    planned = plan_runs(jobs_in_order(defs), settings, brain_names, encoder_names)
    with ExitStack() as stack:
        line = stack.enter_context(progress.task("pipeline", total=len(planned)))
        if workers is None:
            return _one_by_one(defs, instance, settings, planned, line)
        stack.enter_context(local_pools(instance, workers.count))
        return _side_by_side(planned, stack.enter_context(workers), line)


def _one_by_one(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    settings: Settings,
    planned: Sequence[PlannedRun],
    line: progress.Task,
) -> RunSummary:
    summary = RunSummary()
    for count, run in enumerate(planned):
        line.to(count, run.label)
        blocked = summary.has_failed(run.partition)
        summary.add(bring_up_to_date(defs, instance, settings, run.job, run.partition, blocked=blocked))
        if run.job.name == "reference" and summary.failed:
            return summary
    line.to(len(planned), "done")
    return summary


def _side_by_side(planned: Sequence[PlannedRun], workers: Workers, line: progress.Task) -> RunSummary:
    summary, ended = RunSummary(), set[str]()
    waiting, running = list(planned), dict[str, PlannedRun]()
    while waiting or running:
        while len(running) < workers.count and (run := next_run(waiting, ended, workers.count)):
            waiting.remove(run)
            running[run.label] = run
            workers.start(run.job, run.partition, blocked=summary.has_failed(run.partition))
        line.to(len(ended), ", ".join(running))
        for label, part in workers.wait():
            del running[label]
            ended.add(label)
            summary.add(part)
        if summary.failed and "reference" in ended and len(ended) == 1:
            return summary
    line.to(len(planned), "done")
    return summary


def plan_runs(
    jobs: Sequence[WalkedJob], settings: Settings, brain_names: Sequence[str], encoder_names: Sequence[str]
) -> list[PlannedRun]:
    """Return the runs in the order in which one process does them, each with those that it needs.

    First the reference, then brain by brain, then encoder by encoder, then what has no partitions. An encoder is
    evaluated before the next one is trained: results show early.
    """
    partitions: Mapping[PartitionSet | None, Sequence[str | None]] = {
        "brain": brain_names,
        "encoder": encoder_names,
        None: [None],
    }
    place: dict[str | None, int] = {name: place for place, name in enumerate([*brain_names, *encoder_names])}
    ordered = sorted(
        ((job, partition) for job in jobs for partition in partitions[job.partition_set]),
        key=lambda run: -1 if run[0].name == "reference" else place.get(run[1], len(place)),
    )
    planned: list[PlannedRun] = []
    for job, partition in ordered:
        trains = "encoder" in job.assets and partition is not None and settings.encoder(partition).steps > 0
        needed = {run.label for run in planned if _needs(job, partition, run, settings)}
        planned.append(PlannedRun(job, partition, frozenset(needed), trains))
    return planned


def _needs(job: WalkedJob, partition: str | None, earlier: PlannedRun, settings: Settings) -> bool:
    """Whether a run has to wait for an earlier one of the plan."""
    if job.partition_set is None or earlier.job.partition_set != job.partition_set:
        return True
    return earlier.partition in (partition, _ancestor(settings, partition) if job.partition_set == "encoder" else None)


def next_run(waiting: Sequence[PlannedRun], ended: set[str], count: int) -> PlannedRun | None:
    """Return the run that one of `count` workers begins with next; None if all have to wait.

    It is the first in order. The last long ones go before the others: one that is begun at the end leaves the other
    workers idle.
    """
    ready = [run for run in waiting if run.after <= ended]
    long = [run for run in waiting if run.long]
    last = [run for run in ready if run.long] if len(long) < count else []
    return next(iter(last or ready), None)


def ancestors_first(settings: Settings, encoder_names: Sequence[str]) -> list[str]:
    """Sort encoders so that each comes after the one that its `init_from` names, if that is among them.

    Raises
    ------
    ConfigurationError
        Encoders continue from one another in a circle.
    """
    ordered: list[str] = []
    waiting = list(encoder_names)
    while waiting:
        free = [name for name in waiting if _ancestor(settings, name) not in waiting]
        if not free:
            raise ConfigurationError(
                f"{settings.experiments_file}: {', '.join(waiting)} continue from one another in a circle.",
                to_fix="remove init_from from one of them",
            )
        ordered += free
        waiting = [name for name in waiting if name not in free]
    return ordered


def _ancestor(settings: Settings, encoder: str | None) -> str:
    return (settings.encoder(encoder).init_from or "").partition("@")[0] if encoder else ""
