"""What Dagster's instance keeps of a brain: its partition, and runs whose events hold pictures of it.

The store decides what is current, so runs can go without anything being computed again. Only their history is lost.
"""

from collections.abc import Iterator, Sequence

import dagster as dg

from cytonet_pipeline.defs.dagster_internals import delete_run, replace_latest, runs_of_partition
from cytonet_pipeline.defs.partitions import brains
from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.stages import STAGES

_EVALUATION = frozenset(stage.name for stage in STAGES.values() if stage.group == "evaluation")
_OF_BRAINS = frozenset(stage.name for stage in STAGES.values() if stage.partition_set == "brain")


def forget_in_instance(instance: dg.DagsterInstance, brain: str, encoders: Sequence[str]) -> Iterator[str]:
    """Remove a brain's partition, its runs, and the evaluations of encoders that were made with it.

    Parameters
    ----------
    encoders : sequence of str
        Whose evaluation was deleted from the store.

    Yields
    ------
    str
        One line per thing that was done, for people.

    Raises
    ------
    StoreError
        A run works on the brain; the partition has gone.
    """
    if brain in instance.get_dynamic_partitions(str(brains.name)):
        instance.delete_dynamic_partition(str(brains.name), brain)
        yield f"Dagster: partition {brain} removed"
    else:
        yield f"Dagster: there is no partition {brain}"
    runs = [run for run in runs_of_partition(instance, brain) if _computes(run, "ingest_brain", _OF_BRAINS)]
    for encoder in encoders:
        runs += [run for run in runs_of_partition(instance, encoder) if _computes(run, "evaluate_encoder", _EVALUATION)]
    unfinished = [run for run in runs if not run.is_finished]
    if unfinished:
        raise StoreError(
            f"sub-{brain}: {len(unfinished)} runs of Dagster work on it or with it.",
            looked_for=[run.run_id for run in unfinished],
            to_fix=f"terminate them, then: cytonet forget {brain} --yes",
        )
    for run in runs:
        delete_run(instance, run)
    deleted = {run.run_id for run in runs}
    for asset in sorted(_OF_BRAINS | _EVALUATION):
        replace_latest(instance, asset, deleted)
    yield f"Dagster: {len(runs)} runs with pictures or figures of it deleted"


def _computes(run: dg.DagsterRun, job: str, assets: frozenset[str]) -> bool:
    """Whether a run is of a job, or computes one of some assets by itself."""
    selected = {key.to_user_string() for key in run.asset_selection or ()}
    return run.job_name == job or bool(selected & assets)
