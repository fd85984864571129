"""What the store does not have yet: brains to ingest and encoders to train.

Both functions compare the data set and the settings with the store, whenever they are asked: what happened between two
calls, or while a run was in progress, is not lost. The sensor `new_brains` and the schedule `retrain` are thin wrappers
around them.
"""

from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages.histology import PATCH_INDEX, SECTION_SCANS
from cytonet_pipeline.stages.stage import store_of
from cytonet_pipeline.store import digest_of


def brains_to_ingest(settings: Settings) -> dict[str, str]:
    """Find released brains whose inventory or index is missing or was made from other inputs.

    Returns
    -------
    dict
        By brain, a digest of the inputs that it would be ingested from.

    Raises
    ------
    ConfigurationError
        The data set cannot be read.
    """
    from cytonet_pipeline.dataset import Dataset

    released = Dataset(settings.data, settings.experiments.dataset).released()
    stages = (SECTION_SCANS, PATCH_INDEX)
    stale = [brain for brain in released if not all(stage.is_current(settings, brain) for stage in stages)]
    return {brain: digest_of([stage.inputs(settings, brain) for stage in stages]) for brain in stale}


def encoders_to_train(settings: Settings) -> dict[str, str]:
    """Find encoders of the experiments file that would see something else now, with the version they would get."""
    from cytonet_pipeline.lineage import resolve_training_set

    store = store_of(settings)
    stale = {}
    for name, block in settings.experiments.encoders.items():
        if block.retired:
            continue
        try:
            version = resolve_training_set(name, settings, store)[0].version
        except CytonetError:
            continue  # Nothing to train on yet; `cytonet doctor` says why.
        if version != store.current_version(name):
            stale[name] = version
    return stale
