"""The sensor `new_brains`: it ingests released brains that the store does not have, or has from other files.

Every tick compares the data set with the store, so what happened between ticks, or while a run was in progress, is not
lost; the runs of a brain decide when it is requested. The sensor never deletes a partition. A data set that cannot be
read is a reason to skip, not an empty data set.
"""

import dagster as dg

from cytonet_pipeline.defs.partitions import brains
from cytonet_pipeline.defs.run_requests import decide_runs
from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import STAGES
from cytonet_pipeline.stages.pending import brains_to_ingest

_ASSETS = [stage.name for stage in STAGES.values() if stage.partition_set == "brain"]


@dg.sensor(
    job_name="ingest_brain",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Adds each released brain that the store does not have as a partition, and runs ingest_brain on it. "
    "A brain whose run has failed is requested again: after ten minutes, then after twice as long each time.",
)
def new_brains(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.SensorResult | dg.SkipReason:
    """Request a run for each brain that needs one and has none; say which brains are held back, and why."""
    try:
        pending = brains_to_ingest(settings)
    except CytonetError as error:
        return dg.SkipReason(str(error))
    decided = decide_runs(context.instance, "ingest_brain", _ASSETS, pending.inputs)
    decided.held_back.update(pending.not_released | pending.faults)
    if decided.held_back:
        context.log.info(decided.held_back_text("brains"))
    known = context.instance.get_dynamic_partitions(str(brains.name))
    missing = sorted(set(pending.inputs) - set(known))
    skipped = decided.held_back_text("brains") if decided.held_back else f"the store has every brain of {settings.data}"
    return dg.SensorResult(
        run_requests=decided.requests,
        skip_reason=None if decided.requests else skipped,
        dynamic_partitions_requests=[brains.build_add_request(missing)] if missing else [],
    )
