"""From weights to what people look at: features, probes, UMAP, maps, and the table of results."""

import dagster as dg

from cytonet_pipeline.defs.automation import after_any_upstream, after_upstream
from cytonet_pipeline.defs.lineage_page import refresh_page
from cytonet_pipeline.defs.materialize import materialize
from cytonet_pipeline.defs.metadata import columns_of
from cytonet_pipeline.defs.partitions import encoders, every_brain, pool_of
from cytonet_pipeline.defs.resources import RunOptions
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import AREA_MAPS, LINEAR_PROBE, METRICS_TABLE, PATCH_EMBEDDINGS, UMAP_PLOTS

_OWNERS = ["team:evaluation"]
_INDEX = dg.AssetDep("patch_index", partition_mapping=every_brain)


@dg.asset(
    partitions_def=encoders,
    group_name="evaluation",
    kinds={"pytorch", "parquet"},
    owners=_OWNERS,
    deps=["encoder", _INDEX],
    code_version=PATCH_EMBEDDINGS.code_version,
    automation_condition=after_upstream,
    pool=pool_of("patch_embeddings", "local_heavy"),
)
def patch_embeddings(
    context: dg.AssetExecutionContext, config: RunOptions, settings: dg.ResourceParam[Settings]
) -> dg.MaterializeResult:
    """Features of every patch that the evaluation needs: labelled, test and unseen ones, and the UMAP's sample."""
    return materialize(PATCH_EMBEDDINGS, context, config, settings)


@dg.asset(
    partitions_def=encoders,
    group_name="evaluation",
    kinds={"pytorch", "scikitlearn"},
    owners=_OWNERS,
    deps=["patch_embeddings"],
    code_version=LINEAR_PROBE.code_version,
    automation_condition=after_upstream,
    pool="local_heavy",
    metadata=columns_of("predictions"),
)
def linear_probe(
    context: dg.AssetExecutionContext, config: RunOptions, settings: dg.ResourceParam[Settings]
) -> dg.MaterializeResult:
    """Brain areas from frozen features, by every protocol, on unseen sections and on the unseen brain."""
    result = materialize(LINEAR_PROBE, context, config, settings)
    refresh_page(context, settings, context.partition_key)
    return result


@dg.asset(
    partitions_def=encoders,
    group_name="evaluation",
    kinds={"umap", "gifti"},
    owners=_OWNERS,
    deps=["patch_embeddings", "reference_space"],
    code_version=UMAP_PLOTS.code_version,
    automation_condition=after_upstream,
    pool="local_heavy",
    metadata=columns_of("umap"),
)
def umap_plots(
    context: dg.AssetExecutionContext, config: RunOptions, settings: dg.ResourceParam[Settings]
) -> dg.MaterializeResult:
    """What the features look like in two dimensions and on the surface, and how far brains and areas separate."""
    return materialize(UMAP_PLOTS, context, config, settings)


@dg.asset(
    partitions_def=encoders,
    group_name="evaluation",
    kinds={"nifti"},
    owners=_OWNERS,
    deps=["linear_probe", "reference_space", dg.AssetDep("colin27_transforms", partition_mapping=every_brain)],
    code_version=AREA_MAPS.code_version,
    automation_condition=after_upstream,
    pool="local_heavy",
)
def area_maps(
    context: dg.AssetExecutionContext, config: RunOptions, settings: dg.ResourceParam[Settings]
) -> dg.MaterializeResult:
    """Predicted areas over whole sections, and as a label volume with probabilities in Colin-27."""
    result = materialize(AREA_MAPS, context, config, settings)
    refresh_page(context, settings, context.partition_key)
    return result


@dg.asset(
    group_name="evaluation",
    kinds={"parquet", "markdown"},
    owners=_OWNERS,
    # By name, not as an argument: a value for every encoder would be loaded, and one missing would fail the table.
    deps=["linear_probe"],
    code_version=METRICS_TABLE.code_version,
    automation_condition=after_any_upstream,
    metadata=columns_of("metrics"),
)
def metrics_table(
    context: dg.AssetExecutionContext, config: RunOptions, settings: dg.ResourceParam[Settings]
) -> dg.MaterializeResult:
    """All encoders, protocols and splits in one table, with intervals; goes on while some encoders are missing."""
    return materialize(METRICS_TABLE, context, config, settings)
