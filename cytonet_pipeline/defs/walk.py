"""Materialise the whole pipeline without a browser: reference, brains, encoders, table.

No Dagster job spans two partition sets, so the jobs are walked in the order of the asset graph, with one run per
partition. The stages say what is current. A failure of one brain or encoder does not stop the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import dagster as dg

from cytonet_pipeline import progress
from cytonet_pipeline.defs.dagster_internals import (
    assets_in_order,
    assets_of,
    failed_checks,
    named_jobs,
    step_failures,
)
from cytonet_pipeline.defs.instance import fail_orphaned_runs, tags_of_this_process
from cytonet_pipeline.defs.partitions import brains
from cytonet_pipeline.errors import ConfigurationError, CytonetError, StoreError, TrainingError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import stage_of
from cytonet_pipeline.stages.stage import PartitionSet
from cytonet_pipeline.store import Verdict

# Progress and faults are shown by the caller; the log of events is in the instance.
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class WalkedJob:
    """A job with its assets in order, for the partitions of one set."""

    name: str
    assets: tuple[str, ...]
    partition_set: PartitionSet | None

    def label(self, partition: str | None) -> str:
        """Return the name of the job's run for one partition."""
        return f"{self.name} {partition}" if partition else self.name


@dataclass
class RunSummary:
    """What a walk did, by label of job and partition.

    Attributes
    ----------
    done, current : list of str
        Runs that succeeded, and those that were not needed.
    failed : dict
        Runs that failed, or were not started because what they need has failed, with their messages.
    faults : dict
        Checks that failed, and brains that cannot be used, also those found by an earlier run.
    remarks : dict
        Sections and the like that were left out of something that is sound.
    """

    done: list[str] = field(default_factory=list)
    current: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)

    def has_failed(self, partition: str | None) -> bool:
        """Whether an earlier job of the same partition has failed in this walk."""
        return any(partition is not None and label.endswith(f" {partition}") for label in self.failed)


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
) -> RunSummary:
    """Materialise whatever is not current.

    Parameters
    ----------
    brain_names, encoder_names : sequences of str
        Partitions to bring up to date. Brains are added to the dynamic set.

    Returns
    -------
    RunSummary
        Failures are in it, not raised.
    """
    summary = RunSummary()
    fail_orphaned_runs(instance)
    encoder_names = ancestors_first(settings, encoder_names)
    instance.add_dynamic_partitions(str(brains.name), list(brain_names))
    partitions: dict[PartitionSet | None, Sequence[str | None]] = {
        "brain": list(brain_names),
        "encoder": list(encoder_names),
        None: [None],
    }
    planned = [(job, partition) for job in jobs_in_order(defs) for partition in partitions[job.partition_set]]
    with progress.task("pipeline", total=len(planned)) as line:
        for count, (job, partition) in enumerate(_encoder_by_encoder(planned)):
            line.to(count, job.label(partition))
            _bring_up_to_date(defs, instance, settings, job, partition, summary)
            if job.partition_set == "brain" and partition is not None:
                _collect_verdicts(settings, job, partition, summary)
            if job.name == "reference" and summary.failed:
                return summary
        line.to(len(planned), "done")
    return summary


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


def _ancestor(settings: Settings, encoder: str) -> str:
    return (settings.encoder(encoder).init_from or "").partition("@")[0]


def _bring_up_to_date(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    settings: Settings,
    job: WalkedJob,
    partition: str | None,
    summary: RunSummary,
) -> None:
    label = job.label(partition)
    try:
        assets = _assets_to_run(job, settings, partition)
    except CytonetError as error:
        summary.failed[label] = str(error)
        return
    if not assets:
        if failed := _failed_check(job, settings, partition):
            summary.failed[label] = failed
        else:
            summary.current.append(label)
        return
    if summary.has_failed(partition):
        summary.failed[label] = "not run: what it needs has failed"
        return
    result = defs.resolve_job_def(job.name).execute_in_process(
        instance=instance,
        partition_key=partition,
        asset_selection=[dg.AssetKey(asset) for asset in assets],
        raise_on_error=False,
        run_config=_QUIET,
        tags=tags_of_this_process(),
    )
    failures = list(step_failures(result.all_events))
    if any(failure.exception == "DagsterExecutionInterruptedError" for failure in failures):
        # Dagster turns Ctrl-C into a failed run; the person who pressed it does not want the next partition.
        raise KeyboardInterrupt
    if result.success:
        summary.done.append(label)
    else:
        messages = "\n".join(failure.message for failure in failures) or f"run {result.run_id} failed"
        summary.failed[label] = _failed_check(job, settings, partition) or messages
    if job.partition_set != "brain":
        checks = failed_checks(result)
        summary.faults.update({f"{label}: {c.asset_check_key.name}": c.description or "failed" for c in checks})


def _failed_check(job: WalkedJob, settings: Settings, partition: str | None) -> str:
    """Say what later stages must not use of an encoder, whether this walk or an earlier one has computed it."""
    if job.partition_set == "brain":
        return ""  # A brain that cannot be used is a fault of its data, and no failure: the others go on.
    for asset in job.assets:
        try:
            stage_of(asset).require_usable(settings, partition)
        except TrainingError as error:
            return str(error)
        except CytonetError:
            continue  # Not computed: the failure is in the summary already.
    return ""


def _collect_verdicts(settings: Settings, job: WalkedJob, brain: str, summary: RunSummary) -> None:
    """Note what is wrong with a brain, whether this walk or an earlier one has found it."""
    for asset in job.assets:
        try:
            verdict = Verdict.read(stage_of(asset).folder(settings, brain))
        except StoreError:
            continue  # Not computed: the failure is in the summary already.
        if verdict.reasons:
            notes = summary.remarks if verdict.ok else summary.faults
            notes[f"sub-{brain}, {asset}"] = "\n".join(verdict.reasons)


def _assets_to_run(job: WalkedJob, settings: Settings, partition: str | None) -> list[str]:
    """Return the first asset that is not current or drawn and all after it; they skip what turns out to be current."""
    requested = [asset for asset in job.assets if stage_of(asset).is_requested(settings, partition)]
    for index, asset in enumerate(requested):
        stage = stage_of(asset)
        if not (stage.is_current(settings, partition) and stage.is_drawn(settings, partition)):
            return requested[index:]
    return []


def _encoder_by_encoder(planned: list[tuple[WalkedJob, str | None]]) -> list[tuple[WalkedJob, str | None]]:
    """Sort so that an encoder is trained and evaluated before the next one is trained: results show early.

    Reference first, then brains, then encoders one by one, then what has no partitions.
    """
    position: dict[tuple[str | None, str | None], int] = {}
    for job, partition in planned:
        position.setdefault((job.partition_set, partition), len(position))

    def place(item: tuple[WalkedJob, str | None]) -> int:
        job, partition = item
        if partition is not None:
            return position[(job.partition_set, partition)]
        return -1 if job.name == "reference" else len(position)

    return sorted(planned, key=place)
