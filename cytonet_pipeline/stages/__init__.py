"""What each asset is, without Dagster: one module per asset group, one class per asset.

A stage has a name, a partition set, a code version, a folder in the store, the inputs that make its result current, its
computation, and a summary for people. `cytonet run`, `cytonet adopt`, the sensor, the schedule, jobs on the cluster,
the I/O manager and the Dagster assets all read it here.

    from cytonet_pipeline.stages import PATCH_INDEX
    PATCH_INDEX.run(settings, "B20")
    PATCH_INDEX.is_current(settings, "B20")
"""

from collections.abc import Mapping
from typing import Any

# Makes the names of backbones and losses known to the check of experiments files.
import cytonet_pipeline.learning  # noqa: F401
from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.stages.evaluation import LINEAR_PROBE, PATCH_EMBEDDINGS
from cytonet_pipeline.stages.histology import COLIN27_TRANSFORMS, PATCH_INDEX, SECTION_SCANS
from cytonet_pipeline.stages.metrics_table import METRICS_TABLE
from cytonet_pipeline.stages.plots import AREA_MAPS, UMAP_PLOTS
from cytonet_pipeline.stages.reference import REFERENCE_SPACE
from cytonet_pipeline.stages.stage import Stage, Summary
from cytonet_pipeline.stages.training import ENCODER, TRAINING_SET, is_trained

# In the order in which data passes them.
STAGES: Mapping[str, Stage[Any]] = {
    stage.name: stage
    for stage in (
        REFERENCE_SPACE,
        SECTION_SCANS,
        COLIN27_TRANSFORMS,
        PATCH_INDEX,
        TRAINING_SET,
        ENCODER,
        PATCH_EMBEDDINGS,
        LINEAR_PROBE,
        UMAP_PLOTS,
        AREA_MAPS,
        METRICS_TABLE,
    )
}


def stage_of(asset: str) -> Stage[Any]:
    """Return the stage of an asset.

    Raises
    ------
    ConfigurationError
        There is no such asset; the message lists those there are.
    """
    try:
        return STAGES[asset]
    except KeyError:
        raise ConfigurationError(f"{asset!r}: no such stage.", to_fix=f"one of {', '.join(STAGES)}") from None


__all__ = [
    "AREA_MAPS",
    "COLIN27_TRANSFORMS",
    "ENCODER",
    "LINEAR_PROBE",
    "METRICS_TABLE",
    "PATCH_EMBEDDINGS",
    "PATCH_INDEX",
    "REFERENCE_SPACE",
    "SECTION_SCANS",
    "STAGES",
    "TRAINING_SET",
    "UMAP_PLOTS",
    "Stage",
    "Summary",
    "is_trained",
    "stage_of",
]
