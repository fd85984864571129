"""The reference space, and the files that it is made from."""

import dagster as dg

from cytonet_pipeline.defs.materialize import materialize
from cytonet_pipeline.defs.resources import RunOptions
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import REFERENCE_SPACE

_OWNERS = ["team:registration"]

reference_files = dg.AssetSpec(
    "reference_files",
    description="Template, atlas and surfaces of Colin-27 below CYTONET_REFERENCE. Read, never written.",
    group_name="raw",
    kinds={"nifti", "gifti"},
    owners=_OWNERS,
)


@dg.asset(
    group_name="reference",
    kinds={"nifti", "gifti"},
    owners=_OWNERS,
    deps=["reference_files"],
    code_version=REFERENCE_SPACE.code_version,
)
def reference_space(
    context: dg.AssetExecutionContext, config: RunOptions, settings: dg.ResourceParam[Settings]
) -> dg.MaterializeResult:
    """Colin-27 with its atlas and surfaces, checked and digested: the space in which all distances are measured."""
    return materialize(REFERENCE_SPACE, context, config, settings)
