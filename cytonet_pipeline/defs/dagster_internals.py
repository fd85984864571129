"""What this project uses of Dagster beyond its documented interface, in one place.

Every name here may go with an upgrade. `UNDOCUMENTED` lists them all; a test fails with the name and its purpose when
the installed Dagster lacks one. Where a documented way appears, the function here is the one to change. The other
modules call these functions and do not reach into Dagster themselves.
"""

import contextlib
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from pydoc import locate

import dagster as dg

# Documented, without a constant in Dagster's interface.
_PARTITION_TAG = "dagster/partition"
_ENDED = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
_UNFINISHED_BACKFILL = {"REQUESTED", "CANCELING", "FAILING"}
_STORAGE = "dagster._core.storage.event_log.base.EventLogStorage"
_GRAPH = "dagster._core.definitions.assets.graph.base_asset_graph"

# Where it lies in Dagster: what it is needed for.
UNDOCUMENTED = {
    "dagster.AutomationCondition.executed_with_root_target": "updates by the run that brings their target up to date",
    "dagster.DagsterInstance.event_log_storage": "limits of single pools",
    f"{_STORAGE}.set_concurrency_slots": "limits of single pools; dagster.yaml has one default for all of them",
    f"{_STORAGE}.get_concurrency_info": "limits of single pools",
    f"{_STORAGE}.delete_concurrency_limit": "limits of single pools",
    f"{_STORAGE}.free_concurrency_slots_for_run": "places in a pool that a killed run holds",
    "dagster.DagsterInstance.get_runs": "runs whose process has gone; runs of a forgotten brain; runs in the queue",
    "dagster.DagsterInstance.compute_log_manager": "logs of the runs of a forgotten brain",
    "dagster._core.storage.compute_log_manager.ComputeLogManager.delete_logs": "logs of the runs of a forgotten brain",
    "dagster._core.execution.backfill.PartitionBackfill.asset_backfill_data": "partitions of a backfill",
    "dagster._core.definitions.assets.graph.asset_graph_subset.AssetGraphSubset.iterate_asset_partitions": (
        "partitions of a backfill"
    ),
    "dagster.DagsterInstance.get_backfills": "backfills that still include a brain or an encoder",
    "dagster.DagsterInstance.get_run_records": "runs that a brain or an encoder has had, with their times",
    "dagster.DagsterInstance.report_engine_event": "what to do, in the log of a failed run",
    "dagster.DagsterInstance.report_run_failed": "runs whose process has gone",
    "dagster.DagsterInstance.add_run_tags": "the cluster's job, and what a run is made from, as its tags",
    "dagster.DagsterInstance.get_materialized_partitions": "what the instance knows already, for `cytonet adopt`",
    "dagster.Definitions.resolve_asset_graph": "order of the assets",
    "dagster.Definitions.resolve_all_job_defs": "jobs that `cytonet run` walks",
    "dagster.Definitions.resolve_job_def": "a job to run in this process",
    f"{_GRAPH}.BaseAssetGraph.toposorted_asset_keys": "order of the assets",
    f"{_GRAPH}.BaseAssetGraph.get": "order of the assets",
    f"{_GRAPH}.BaseAssetNode.is_materializable": "assets that are computed, apart from the raw data",
    "dagster.JobDefinition.asset_layer": "assets of a job",
    "dagster._core.definitions.assets.job.asset_layer.AssetLayer.executable_asset_keys": "assets of a job",
    "dagster.DagsterEvent.step_failure_data": "message of a failed step",
    "dagster.ExecuteInProcessResult.get_asset_check_evaluations": "checks that failed in a run",
    "dagster.PipesMessageHandler.handle_message": "messages of a process that outlives the run which started it",
    "dagster.PreviewWarning": "a warning that Dagster's own Pipes session raises about its own reader",
}


def absent_names() -> list[str]:
    """List the names of `UNDOCUMENTED` that the installed Dagster lacks, each with what needs it."""
    return [f"{name}: {need}" for name, need in UNDOCUMENTED.items() if locate(name) is None]


def set_pool_limit(instance: dg.DagsterInstance, pool: str, limit: int | None) -> None:
    """Set how many ops of a pool may run at a time; None: the default of all pools."""
    if limit is None:
        instance.event_log_storage.delete_concurrency_limit(pool)
    else:
        instance.event_log_storage.set_concurrency_slots(pool, limit)


def pool_limit(instance: dg.DagsterInstance, pool: str) -> int | None:
    """Return how many ops of a pool may run at a time; None if the default of all pools holds."""
    return instance.event_log_storage.get_concurrency_info(pool).slot_count or None


def fail_run(instance: dg.DagsterInstance, run: dg.DagsterRun, reason: str) -> None:
    """Mark a run as failed and free the places in pools that it holds."""
    instance.report_run_failed(run, reason)
    instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


@dataclass(frozen=True)
class EarlierRun:
    """A run of one partition, as the instance remembers it.

    Attributes
    ----------
    since : float
        When it was requested or, once it has ended, when it ended (seconds since 1970).
    """

    run_id: str
    status: dg.DagsterRunStatus
    since: float
    tags: Mapping[str, str]

    @property
    def ended(self) -> bool:
        """Whether it will not change any more."""
        return self.status in _ENDED


def runs_of(
    instance: dg.DagsterInstance, job: str, assets: Collection[str], partition: str, *, most: int = 50
) -> list[EarlierRun]:
    """Return the latest runs of a job, or of any of its assets, for one partition, the newest first.

    Runs that a person starts from an asset's page and those of a backfill belong to a job that Dagster names.
    """
    keys = {dg.AssetKey(asset) for asset in assets}
    records = instance.get_run_records(dg.RunsFilter(tags={_PARTITION_TAG: partition}), limit=most)
    return [
        EarlierRun(
            record.dagster_run.run_id,
            record.dagster_run.status,
            record.end_time or record.create_timestamp.timestamp(),
            record.dagster_run.tags,
        )
        for record in records
        if record.dagster_run.job_name == job or keys & set(record.dagster_run.asset_selection or ())
    ]


def queued_runs(instance: dg.DagsterInstance, job: str) -> int:
    """Return how many runs of a job have been requested and wait for a place."""
    waiting = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED]
    return len(instance.get_runs(dg.RunsFilter(job_name=job, statuses=waiting), limit=100))


def partitions_in_backfills(
    instance: dg.DagsterInstance, job: str, assets: Collection[str], *, most: int = 100
) -> dict[str, str]:
    """Return the partitions of a job's assets that an unfinished backfill includes, each with the backfill's id.

    Parameters
    ----------
    most : int
        How many backfills are looked at, the newest first.
    """
    keys = {dg.AssetKey(asset) for asset in assets}
    found: dict[str, str] = {}
    for backfill in instance.get_backfills(limit=most):
        if backfill.status.value not in _UNFINISHED_BACKFILL:
            continue
        if backfill.job_name == job:
            found |= dict.fromkeys(backfill.partition_names or (), backfill.backfill_id)
        if backfill.asset_backfill_data is not None:
            parts = backfill.asset_backfill_data.target_subset.iterate_asset_partitions()
            names = (part.partition_key for part in parts if part.asset_key in keys)
            found |= {name: backfill.backfill_id for name in names if name is not None}
    return found


def updated_by_another_run() -> dg.AutomationCondition[dg.AssetKey | dg.AssetCheckKey]:
    """Return the condition that an asset was updated by a run that does not bring what depends on it up to date too."""
    return dg.AutomationCondition.newly_updated() & ~dg.AutomationCondition.executed_with_root_target()


def assets_in_order(defs: dg.Definitions) -> list[str]:
    """Return the assets that are computed, each after all that it depends on."""
    graph = defs.resolve_asset_graph()
    return [key.to_user_string() for key in graph.toposorted_asset_keys if graph.get(key).is_materializable]


def note_in_log(instance: dg.DagsterInstance, run: dg.DagsterRun, text: str) -> None:
    """Add a line to the log of a run, also of one that has ended."""
    instance.report_engine_event(text, run)


def partition_of(run: dg.DagsterRun) -> str:
    """Return the partition of a run; empty if it has none."""
    return run.tags.get(_PARTITION_TAG, "")


def named_jobs(defs: dg.Definitions) -> list[dg.JobDefinition]:
    """Return the jobs of a code location without those that Dagster adds."""
    return [job for job in defs.resolve_all_job_defs() if not job.name.startswith("__")]


def assets_of(job: dg.JobDefinition) -> set[str]:
    """Return the assets that a job computes."""
    return {key.to_user_string() for key in job.asset_layer.executable_asset_keys}


@dataclass(frozen=True)
class StepFailure:
    """A failed step: the message that people read, and the class of the exception."""

    message: str
    exception: str


def step_failures(events: Iterable[dg.DagsterEvent]) -> Iterator[StepFailure]:
    """Yield the failed steps among the events of a run.

    The message is the description of a `dg.Failure`, else the text of the exception that caused the failure.
    """
    for event in events:
        if not event.is_step_failure:
            continue
        failure = event.step_failure_data
        error, given = failure.error, failure.user_failure_data
        exception = (error.cls_name if error else None) or ""
        if given is not None and given.description:
            yield StepFailure(given.description, exception)
        elif error is not None:
            yield StepFailure((error.cause or error).message.strip(), exception)


def failed_checks(result: dg.ExecuteInProcessResult) -> list[dg.AssetCheckEvaluation]:
    """Return the asset checks of a run that found an error; warnings are left out."""
    checks = result.get_asset_check_evaluations()
    return [check for check in checks if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR]


def runs_of_partition(instance: dg.DagsterInstance, partition: str) -> list[dg.DagsterRun]:
    """Return all runs of one partition, whatever became of them."""
    return list(instance.get_runs(dg.RunsFilter(tags={"dagster/partition": partition})))


def delete_run(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Delete a run with its events and the logs of its steps."""
    instance.delete_run(run.run_id)
    instance.compute_log_manager.delete_logs(prefix=[run.run_id])


def replace_latest(instance: dg.DagsterInstance, asset: str, deleted: set[str]) -> bool:
    """Replace the copy of an asset's latest event that Dagster keeps apart, if a deleted run had left it.

    Returns
    -------
    bool
        Whether it was replaced: by an event without pictures of another partition, or by none.
    """
    key = dg.AssetKey(asset)
    latest = instance.get_latest_materialization_event(key)
    if latest is None or latest.run_id not in deleted:
        return False
    others = sorted(name for name in instance.get_materialized_partitions(key) if name)
    if others:
        again = dg.AssetMaterialization(key, partition=others[0], description="its latest event was deleted")
        instance.report_runless_asset_event(again)
    else:
        instance.wipe_assets([key])
    return True


def compact_databases(home: Path) -> list[str]:
    """Free the space of what was deleted from an instance's SQLite files, where its bytes would stay readable.

    Returns
    -------
    list of str
        Files that are in use, so that this could not be done.
    """
    in_use = []
    for path in sorted(home.rglob("*.db")):
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=5)) as database:
                database.execute("VACUUM")
        except sqlite3.Error:
            in_use.append(str(path))
    return in_use
