"""The schedule `retrain`: encoders whose training set would differ today are trained again.

It compares the store with the desired state on every tick, so nothing that happened between ticks is lost. It starts
stopped: GPU time is spent when a person has decided to.
"""

import dagster as dg

from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages.pending import encoders_to_train


@dg.schedule(
    cron_schedule="0 3 * * 1",
    job_name="train_encoder",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Mondays at 3: train the encoders of CYTONET_EXPERIMENTS whose training set would differ.",
)
def retrain(settings: dg.ResourceParam[Settings]):  # type: ignore[no-untyped-def]
    """Request one run per encoder; the run key has the version, so that the same training is not requested twice."""
    try:
        wanted = encoders_to_train(settings)
    except CytonetError as error:
        yield dg.SkipReason(str(error))
        return
    if not wanted:
        yield dg.SkipReason("every encoder has seen exactly what it would see now")
    for name, version in wanted.items():
        yield dg.RunRequest(run_key=f"{name}-{version}", partition_key=name, tags={"cytonet/version": version})
