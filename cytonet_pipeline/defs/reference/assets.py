"""The reference space as an asset."""

import dagster as dg

from cytonet_pipeline.defs.currency import CODE_VERSIONS
from cytonet_pipeline.defs.metadata import numbers, picture_of
from cytonet_pipeline.defs.reference.steps import check_reference
from cytonet_pipeline.defs.resources import RunOptions
from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Verdict


@dg.asset(
    group_name="reference",
    kinds={"nifti", "gifti"},
    owners=["team:registration"],
    code_version=CODE_VERSIONS["reference_space"],
)
def reference_space(config: RunOptions, settings: dg.ResourceParam[Settings]) -> dg.MaterializeResult:
    """Colin-27 with its atlas and surfaces, checked and digested: the space in which all distances are measured."""
    try:
        folder = check_reference(settings, recompute=config.recompute)
    except CytonetError as error:
        # Without a reference nothing downstream has a meaning: this is not one brain's fault.
        raise dg.Failure(str(error), allow_retries=False) from error
    verdict = Verdict.read(folder)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(verdict.digest),
        metadata={**picture_of(folder / "reference.png", "reference"), **numbers(verdict.numbers)},
    )
