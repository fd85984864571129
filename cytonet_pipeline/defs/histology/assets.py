"""One brain, from files to rows: its scans, its transforms, its patches.

A data fault is not an exception here: the asset materialises with what is sound, names what is not, and its check
fails.
"""

import dagster as dg

from cytonet_pipeline.defs.failures import failures_explained
from cytonet_pipeline.defs.materialize import materialize
from cytonet_pipeline.defs.metadata import columns_of
from cytonet_pipeline.defs.partitions import brains, pool_of
from cytonet_pipeline.defs.resources import RunOptions
from cytonet_pipeline.defs.run_requests import record_inputs
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import COLIN27_TRANSFORMS, PATCH_INDEX, SECTION_SCANS
from cytonet_pipeline.stages.watching import inputs_of_brain

_OWNERS = ["team:histology"]

dataset = dg.AssetSpec(
    "dataset",
    description="The data set below CYTONET_DATA: scans, masks, annotations and transforms. Read, never written.",
    group_name="raw",
    kinds={"tiff", "bids"},
    owners=_OWNERS,
)


@dg.asset(
    partitions_def=brains,
    group_name="histology",
    kinds={"tiff", "parquet"},
    owners=_OWNERS,
    deps=["dataset"],
    code_version=SECTION_SCANS.code_version,
    pool=pool_of("section_scans", "local_heavy"),
    metadata=columns_of("section_scans"),
)
def section_scans(
    context: dg.AssetExecutionContext, config: RunOptions, settings: dg.ResourceParam[Settings]
) -> dg.MaterializeResult:
    """Which sections of a brain there are, which may be used, and why not the others."""
    with failures_explained():
        record_inputs(context, inputs_of_brain(settings, context.partition_key))
    return materialize(SECTION_SCANS, context, config, settings)


@dg.asset(
    partitions_def=brains,
    group_name="histology",
    kinds={"simpleitk"},
    owners=["team:registration"],
    deps=["dataset", "reference_space", "section_scans"],
    code_version=COLIN27_TRANSFORMS.code_version,
    pool=pool_of("colin27_transforms", "local_heavy"),
)
def colin27_transforms(
    context: dg.AssetExecutionContext, config: RunOptions, settings: dg.ResourceParam[Settings]
) -> dg.MaterializeResult:
    """The chain of transforms from each section of a brain to Colin-27, and how far to trust it."""
    return materialize(COLIN27_TRANSFORMS, context, config, settings)


@dg.asset(
    partitions_def=brains,
    group_name="histology",
    kinds={"parquet"},
    owners=_OWNERS,
    deps=["dataset", "reference_space", "section_scans", "colin27_transforms"],
    code_version=PATCH_INDEX.code_version,
    pool=pool_of("patch_index", "local_heavy"),
    metadata=columns_of("patch_index"),
)
def patch_index(
    context: dg.AssetExecutionContext, config: RunOptions, settings: dg.ResourceParam[Settings]
) -> dg.MaterializeResult:
    """Patches drawn uniformly from the cortex of a brain, each with its place in Colin-27."""
    return materialize(PATCH_INDEX, context, config, settings)
