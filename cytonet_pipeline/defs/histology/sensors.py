"""The sensor `new_brains`: it ingests released brains that the store does not have, or has from other files.

Every tick compares the data set with the store, so what happened between ticks, or while a run was in progress, is not
lost; the runs of a brain decide when it is requested. A tick begins on no brain after its first second, however large
the data set is: its cursor holds what earlier ticks have found (`stages/watching.py`). The sensor never deletes a
partition. A data set that cannot be read is a reason to skip, not an empty data set.
"""

import dagster as dg

from cytonet_pipeline.defs.partitions import brains
from cytonet_pipeline.defs.run_requests import RunDecisions, decide_runs
from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages.pending import brains_to_ingest
from cytonet_pipeline.stages.watching import BRAIN_STAGES, Watch

_ASSETS = [stage.name for stage in BRAIN_STAGES]


@dg.sensor(
    job_name="ingest_brain",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Adds each released brain that the store does not have as a partition, and runs ingest_brain on it, on "
    "`ingest: max_new_brains` brains per tick (default 2). A brain whose run has failed is requested again: after ten "
    "minutes, then after twice as long each time. Resetting the cursor lets all brains be examined again.",
)
def new_brains(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.SensorResult | dg.SkipReason:
    """Request a run for each brain that needs one and has none; say which brains are held back, and why."""
    watch = Watch.from_text(context.cursor)
    try:
        pending = brains_to_ingest(settings, watch)
        most = settings.experiments.ingest.max_new_brains
        decided = decide_runs(context.instance, "ingest_brain", _ASSETS, pending.inputs, most=most)
        changed = [r for r in decided.requests if not watch.is_as_found(settings, str(r.partition_key))]
    except CytonetError as error:
        return dg.SkipReason(str(error))
    decided.held_back.update(pending.left_out)
    decided.held_back.update({str(r.partition_key): "has just changed; examined on the next tick" for r in changed})
    held_back = _held_back(decided, watch.unexamined)
    if held_back:
        context.log.info(held_back)
    known = context.instance.get_dynamic_partitions(str(brains.name))
    missing = sorted(set(pending.inputs) - set(known))
    requests = [request for request in decided.requests if request not in changed]
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else held_back or f"the store has every brain of {settings.data}",
        dynamic_partitions_requests=[brains.build_add_request(missing)] if missing else [],
        cursor=watch.as_text(),
    )


def _held_back(decided: RunDecisions, unexamined: list[str]) -> str:
    """Say which brains are not requested now, and how many no tick has come to yet; empty if there are none."""
    lines = [decided.held_back_text("brains")] if decided.held_back else []
    if unexamined:
        lines.append(
            f"not examined yet: {len(unexamined)} brains, next {unexamined[0]}; a tick examines as many as it can in a "
            "second, the next ticks the rest"
        )
    return "\n".join(lines)
