"""From a stage to a materialisation: run it, here or on the cluster, and put its summary on the asset's page."""

import time
from collections.abc import Mapping
from typing import Any

import dagster as dg

from cytonet_pipeline.defs.failures import failures_explained
from cytonet_pipeline.defs.metadata import numbers, picture_of, reasons_of
from cytonet_pipeline.defs.resources import RunOptions
from cytonet_pipeline.defs.sending import send
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import Stage, Summary
from cytonet_pipeline.stages.stage import ResumableStage

# A brain or an encoder that cannot be used has a result, and its run succeeds: its page has to say it.
_STATUS = {"failed": "FAILED: it cannot be used, see what is wrong"}


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
        began, needed = time.monotonic(), config.recompute or not _is_up_to_date(stage, settings, partition)
        sent = partition is not None and send(context, settings, stage, partition, recompute=recompute)
        stage.run(settings, partition, recompute=recompute and not sent)
        done = f"computed in {time.monotonic() - began:.1f} s" if needed else "nothing: it was current already"
        return described(stage.summary(settings, partition), done)


def _is_up_to_date(stage: Stage[Any], settings: Settings, partition: str | None) -> bool:
    return stage.is_current(settings, partition) and stage.is_drawn(settings, partition)


def described(summary: Summary, done: str, more: Mapping[str, dg.MetadataValue] | None = None) -> dg.MaterializeResult:
    """Return what an asset's page shows of a result: first what people come for.

    Parameters
    ----------
    done : str
        What this run did.
    more : mapping, optional
        Metadata that stand before the pictures.
    """
    pictures = {
        key: value for title, path in summary.pictures.items() for key, value in picture_of(path, title).items()
    }
    return dg.MaterializeResult(
        data_version=dg.DataVersion(summary.data_version),
        metadata={
            "what was done": done,
            **({"status": _STATUS.get(summary.status, summary.status)} if summary.status else {}),
            **reasons_of(summary.reasons),
            **(more or {}),
            **pictures,
            **{title: dg.MetadataValue.md(text) for title, text in summary.texts.items()},
            **numbers(summary.numbers),
            "folder": dg.MetadataValue.path(str(summary.folder)),
        },
    )
