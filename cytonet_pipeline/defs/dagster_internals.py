"""What this project uses of Dagster beyond its documented interface, in one place.

Every name here may go with an upgrade. `UNDOCUMENTED` lists them all; a test fails with the name and its purpose when
the installed Dagster lacks one. Where a documented way appears, the function here is the one to change. The other
modules call these functions and do not reach into Dagster themselves.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pydoc import locate

import dagster as dg

_STORAGE = "dagster._core.storage.event_log.base.EventLogStorage"
_GRAPH = "dagster._core.definitions.assets.graph.base_asset_graph"

# Where it lies in Dagster: what it is needed for.
UNDOCUMENTED = {
    "dagster.DagsterInstance.event_log_storage": "limits of single pools",
    f"{_STORAGE}.set_concurrency_slots": "limits of single pools; dagster.yaml has one default for all of them",
    f"{_STORAGE}.free_concurrency_slots_for_run": "places in a pool that a killed run holds",
    "dagster.DagsterInstance.get_runs": "runs whose process has gone",
    "dagster.DagsterInstance.report_run_failed": "runs whose process has gone",
    "dagster.DagsterInstance.add_run_tags": "the id of the cluster's job as a tag of the run",
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


def set_pool_limit(instance: dg.DagsterInstance, pool: str, limit: int) -> None:
    """Set how many ops of a pool may run at a time."""
    instance.event_log_storage.set_concurrency_slots(pool, limit)


def fail_run(instance: dg.DagsterInstance, run: dg.DagsterRun, reason: str) -> None:
    """Mark a run as failed and free the places in pools that it holds."""
    instance.report_run_failed(run, reason)
    instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def assets_in_order(defs: dg.Definitions) -> list[str]:
    """Return the assets that are computed, each after all that it depends on."""
    graph = defs.resolve_asset_graph()
    return [key.to_user_string() for key in graph.toposorted_asset_keys if graph.get(key).is_materializable]


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
