"""The schedule `retrain`: encoders whose training set would differ today are trained again.

It compares the store with the wanted state on every tick, so nothing that happened between ticks is lost. Stopped by
default: GPU time is spent when a person has said so.
"""

import dagster as dg

from cytonet_pipeline.defs.jobs import train_encoder
from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store


def encoders_to_train(settings: Settings, store: Store) -> dict[str, str]:
    """Encoders of the experiments file that would see something else now, with the version they would get."""
    from cytonet_pipeline.lineage import resolve_training_set

    wanted = {}
    for name, block in settings.experiments.encoders.items():
        if block.retired:
            continue
        try:
            version = resolve_training_set(name, settings, store)[0].version
        except CytonetError:
            continue  # Nothing to train on yet; `cytonet doctor` says why.
        if version != store.current_version(name):
            wanted[name] = version
    return wanted


@dg.schedule(
    cron_schedule="0 3 * * 1",
    job=train_encoder,
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Mondays at 3: train the encoders of CYTONET_EXPERIMENTS whose training set would differ.",
)
def retrain(settings: dg.ResourceParam[Settings]):  # type: ignore[no-untyped-def]
    """One run an encoder; the run key holds the version, so that the same training is not requested twice."""
    try:
        wanted = encoders_to_train(settings, Store(settings.store))
    except CytonetError as error:
        yield dg.SkipReason(str(error))
        return
    if not wanted:
        yield dg.SkipReason("every encoder has seen exactly what it would see now")
    for name, version in wanted.items():
        yield dg.RunRequest(run_key=f"{name}-{version}", partition_key=name, tags={"cytonet/version": version})
