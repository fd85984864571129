"""The sensor `new_brains`: it ingests released brains that the store does not have, or has from other files.

Stateless: every tick compares the data set with the store, so what happened between ticks, or while a run was in
progress, is not lost. It never deletes a partition. A data set that cannot be read is a reason to skip, not an empty
data set.
"""

import dagster as dg

from cytonet_pipeline.defs.partitions import brains
from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages.pending import brains_to_ingest


@dg.sensor(
    job_name="ingest_brain",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Adds each released brain that the store does not have as a partition, and runs ingest_brain on it.",
)
def new_brains(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.SensorResult | dg.SkipReason:
    """Request one run per brain and state of its files; the run key keeps a tick from requesting it twice."""
    try:
        arrivals = brains_to_ingest(settings)
    except CytonetError as error:
        return dg.SkipReason(str(error))
    if not arrivals:
        return dg.SkipReason(f"the store has every released brain of {settings.data}")
    known = set(context.instance.get_dynamic_partitions(str(brains.name)))
    missing = sorted(set(arrivals) - known)
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(run_key=f"{brain}-{digest}", partition_key=brain) for brain, digest in arrivals.items()
        ],
        dynamic_partitions_requests=[brains.build_add_request(missing)] if missing else [],
    )
