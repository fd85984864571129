"""Lineage in the UI: the page of an encoder is made when it is trained and evaluated; each brain says who saw it."""

import dagster as dg

from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages.lineage_page import brains_of, make_page, models_text


def refresh_page(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
    settings: Settings,
    encoder: str,
    version: str | None = None,
) -> dict[str, dg.MetadataValue]:
    """Make the lineage page of an encoder, and return it as metadata. A page that cannot be made fails no run."""
    try:
        return {"lineage page": dg.MetadataValue.path(str(make_page(settings, encoder, version)))}
    except (CytonetError, OSError) as error:
        context.log.warning(f"no lineage page of {encoder}: {error}")
        return {}


def show_on_brains(context: dg.OpExecutionContext, settings: Settings, encoder: str, version: str) -> None:
    """Put the models that saw a brain on its page, for each brain that a new version knows."""
    for brain in brains_of(settings, encoder, version):
        text = dg.MetadataValue.md(models_text(settings, brain))
        context.log_event(dg.AssetObservation("section_scans", partition=brain, metadata={"models": text}))
