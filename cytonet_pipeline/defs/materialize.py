"""From a stage to a materialisation: run it, here or on the cluster, and put its summary on the asset's page."""

from typing import Any

import dagster as dg

from cytonet_pipeline.defs.failures import failures_explained
from cytonet_pipeline.defs.metadata import numbers, picture_of, reasons_of
from cytonet_pipeline.defs.resources import RunOptions
from cytonet_pipeline.defs.sending import send
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import Stage, Summary
from cytonet_pipeline.stages.stage import ResumableStage


def materialize(
    stage: Stage[Any], context: dg.AssetExecutionContext, config: RunOptions, settings: Settings
) -> dg.MaterializeResult:
    """Bring a stage up to date for the run's partition, and describe its result.

    Raises
    ------
    dagster.Failure
        It cannot be computed. A fault in the data of one brain does not fail the run; it is in the metadata.
    """
    partition = context.partition_key if context.has_partition_key else None
    with failures_explained():
        recompute = config.recompute
        if recompute and isinstance(stage, ResumableStage):
            # Once, here: a job with --recompute would begin from scratch whenever it is requeued.
            stage.discard(settings, partition)
            recompute = False
        sent = partition is not None and send(context, settings, stage, partition, recompute=recompute)
        stage.run(settings, partition, recompute=recompute and not sent)
        return described(stage.summary(settings, partition))


def described(summary: Summary) -> dg.MaterializeResult:
    """Return what an asset's page shows of a result."""
    pictures = {
        key: value for title, path in summary.pictures.items() for key, value in picture_of(path, title).items()
    }
    return dg.MaterializeResult(
        data_version=dg.DataVersion(summary.data_version),
        metadata={
            **({"status": summary.status} if summary.status else {}),
            **reasons_of(summary.reasons),
            **pictures,
            **{title: dg.MetadataValue.md(text) for title, text in summary.texts.items()},
            **numbers(summary.numbers),
            "folder": dg.MetadataValue.path(str(summary.folder)),
        },
    )
