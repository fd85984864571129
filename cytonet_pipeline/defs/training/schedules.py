"""The schedule `retrain`: encoders whose training set would differ today are trained again.

It compares the store with the desired state on every tick, so nothing that happened between ticks is lost; the runs of
an encoder decide whether it is requested. It starts stopped: GPU time is spent when a person has decided to.
"""

import dagster as dg

from cytonet_pipeline.defs.partitions import schedule_cron, schedule_timezone
from cytonet_pipeline.defs.run_requests import decide_runs
from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import ENCODER, TRAINING_SET
from cytonet_pipeline.stages.pending import encoders_to_train

# What has changed since the version in use was trained.
CHANGE_TAG = "cytonet/changed"


@dg.schedule(
    cron_schedule=schedule_cron,
    execution_timezone=schedule_timezone,
    job_name="train_encoder",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Train the encoders of CYTONET_EXPERIMENTS whose training set would differ. Cron expression "
    f"{schedule_cron} (`retrain: cron`), time zone {schedule_timezone} (CYTONET_TIMEZONE); both are read when "
    "definitions load.",
)
def retrain(context: dg.ScheduleEvaluationContext, settings: dg.ResourceParam[Settings]):  # type: ignore[no-untyped-def]
    """Request a run for each encoder that needs one and has none; say which encoders are held back, and why."""
    try:
        pending = encoders_to_train(settings)
    except CytonetError as error:
        return dg.SkipReason(str(error))
    decided = decide_runs(
        context.instance,
        "train_encoder",
        (TRAINING_SET.name, ENCODER.name),
        pending.inputs,
        run_keys=True,
        most=settings.experiments.retrain.at_most,
        tags_of={name: {CHANGE_TAG: change.summary} for name, change in pending.changes.items()},
    )
    decided.held_back.update(pending.faults)
    if decided.held_back:
        context.log.info(decided.held_back_text("encoders"))
    for request in decided.requests:
        change = pending.changes.get(str(request.partition_key))
        why = "first training" if change is None else change.text
        context.log.info(f"{request.partition_key}: {why}")
    if decided.requests:
        return decided.requests
    if decided.held_back:
        return dg.SkipReason(decided.held_back_text("encoders"))
    return dg.SkipReason("every encoder has seen exactly what it would see now")
