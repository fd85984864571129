"""Bring one partition of one job up to date, and summarise what was done and what is wrong."""

from dataclasses import dataclass, field

import dagster as dg

from cytonet_pipeline.defs.dagster_internals import failed_checks, step_failures
from cytonet_pipeline.defs.instance import tags_of_this_process
from cytonet_pipeline.errors import CytonetError, StoreError, TrainingError
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

    def add(self, other: "RunSummary") -> None:
        """Take over what another summary says."""
        self.done += other.done
        self.current += other.current
        self.failed |= other.failed
        self.faults |= other.faults
        self.remarks |= other.remarks

    def has_failed(self, partition: str | None) -> bool:
        """Whether an earlier job of the same partition has failed in this walk."""
        return any(partition is not None and label.endswith(f" {partition}") for label in self.failed)


def bring_up_to_date(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    settings: Settings,
    job: WalkedJob,
    partition: str | None,
    *,
    blocked: bool,
) -> RunSummary:
    """Run what is not current of a job for one partition.

    Parameters
    ----------
    blocked : bool
        An earlier job of the partition has failed: what is not current is not run.

    Raises
    ------
    KeyboardInterrupt
        A person stopped it; the run is recorded as failed.
    """
    summary = _run_if_stale(defs, instance, settings, job, partition, blocked=blocked)
    if job.partition_set == "brain" and partition is not None:
        _collect_verdicts(settings, job, partition, summary)
    return summary


def _run_if_stale(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    settings: Settings,
    job: WalkedJob,
    partition: str | None,
    *,
    blocked: bool,
) -> RunSummary:
    summary = RunSummary()
    label = job.label(partition)
    try:
        assets = _assets_to_run(job, settings, partition)
    except CytonetError as error:
        summary.failed[label] = str(error)
        return summary
    if not assets:
        if failed := _failed_check(job, settings, partition):
            summary.failed[label] = failed
        else:
            summary.current.append(label)
        return summary
    if blocked:
        summary.failed[label] = "not run: what it needs has failed"
        return summary
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
    return summary


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
