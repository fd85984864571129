"""One brain, from files to rows: its scans, its transforms, its patches.

A data fault is not an exception here: the asset materialises with what is sound, says what is not, and its check fails.
"""

from pathlib import Path
from typing import Protocol

import dagster as dg

from cytonet_pipeline.defs.currency import CODE_VERSIONS
from cytonet_pipeline.defs.histology import steps
from cytonet_pipeline.defs.metadata import columns_of, numbers, picture_of, reasons_of
from cytonet_pipeline.defs.partitions import brains, pool_of
from cytonet_pipeline.defs.resources import RunOptions
from cytonet_pipeline.defs.sending import send
from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store, Verdict, beside, open_store

_OWNERS = ["team:histology"]


class Step(Protocol):
    """One of the functions in `steps`."""

    def __call__(self, settings: Settings, brain_name: str, *, recompute: bool = False) -> Verdict:
        """Do it, unless it is done."""
        ...


@dg.asset(
    partitions_def=brains,
    group_name="histology",
    kinds={"tiff", "parquet"},
    owners=_OWNERS,
    code_version=CODE_VERSIONS["section_scans"],
    pool=pool_of("section_scans", "local_heavy"),
    metadata=columns_of("section_scans"),
)
def section_scans(
    context: dg.AssetExecutionContext, config: RunOptions, settings: dg.ResourceParam[Settings]
) -> dg.MaterializeResult:
    """Which sections of a brain there are, which may be used, and why not the others."""
    verdict = _run(steps.take_inventory, context, settings, config)
    folder = Store(settings.store).section_scans(context.partition_key)
    return _tell(verdict, picture_of(beside(folder, "contact_sheet.png"), "contact sheet"), folder)


@dg.asset(
    partitions_def=brains,
    group_name="histology",
    kinds={"simpleitk"},
    owners=["team:registration"],
    deps=["reference_space", "section_scans"],
    code_version=CODE_VERSIONS["colin27_transforms"],
    pool=pool_of("colin27_transforms", "local_heavy"),
)
def colin27_transforms(
    context: dg.AssetExecutionContext, config: RunOptions, settings: dg.ResourceParam[Settings]
) -> dg.MaterializeResult:
    """The chain from each section of a brain to Colin-27, and how far to trust it."""
    verdict = _run(steps.resolve_transforms, context, settings, config)
    folder = Store(settings.store).colin27_transforms(context.partition_key)
    return _tell(verdict, picture_of(beside(folder, "transform.png"), "sections over Colin-27"), folder)


@dg.asset(
    partitions_def=brains,
    group_name="histology",
    kinds={"parquet"},
    owners=_OWNERS,
    deps=["reference_space", "section_scans", "colin27_transforms"],
    code_version=CODE_VERSIONS["patch_index"],
    pool=pool_of("patch_index", "local_heavy"),
    metadata=columns_of("patch_index"),
)
def patch_index(
    context: dg.AssetExecutionContext, config: RunOptions, settings: dg.ResourceParam[Settings]
) -> dg.MaterializeResult:
    """Patches drawn uniformly from the cortex of a brain, each with its place in Colin-27."""
    verdict = _run(steps.index_patches, context, settings, config)
    folder = Store(settings.store).patch_index(context.partition_key)
    return _tell(verdict, picture_of(beside(folder, "patches.png"), "where the patches lie"), folder)


def _run(step: Step, context: dg.AssetExecutionContext, settings: Settings, config: RunOptions) -> Verdict:
    asset, brain = context.asset_key.to_user_string(), context.partition_key
    try:
        open_store(settings)
        sent = send(context, settings, asset, brain, recompute=config.recompute)
        return step(settings, brain, recompute=config.recompute and not sent)
    except CytonetError as error:
        # What gets here is no data fault of this brain: a full disk, a store of other settings.
        raise dg.Failure(str(error), allow_retries=False) from error


def _tell(verdict: Verdict, picture: dict[str, dg.MetadataValue], folder: Path) -> dg.MaterializeResult:
    return dg.MaterializeResult(
        data_version=dg.DataVersion(verdict.digest or "failed"),
        metadata={
            "status": verdict.status,
            **reasons_of(verdict.reasons),
            **picture,
            **numbers(verdict.numbers),
            "folder": dg.MetadataValue.path(str(folder)),
        },
    )
