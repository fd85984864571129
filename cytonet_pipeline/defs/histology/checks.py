"""Checks of what came in: a brain that cannot be used fails them, by name, without stopping the others.

They read the verdict that the step left in the store; they are errors, not blocking ones, because one failed brain
must not fail everything after it. Later steps look at the same verdicts themselves.
"""

import dagster as dg

from cytonet_pipeline.defs.partitions import brains
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store, Verdict, read_table


@dg.asset_check(
    asset="section_scans",
    partitions_def=brains,
    description="The brain has usable sections, and no scan, mask, annotation or matrix of them is faulty.",
)
def scans_are_sound(
    context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]
) -> dg.AssetCheckResult:
    """A faulty section is an error for people, not for the pipeline: the brain goes on, if need be without it."""
    return _checked(
        Verdict.read(Store(settings.store).section_scans(context.partition_key)), dg.AssetCheckSeverity.ERROR
    )


@dg.asset_check(
    asset="section_scans",
    partitions_def=brains,
    description="No section stands out among its neighbours, and the series has no gaps.",
)
def sections_are_even(
    context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]
) -> dg.AssetCheckResult:
    """A warning: sections that stand out take part; somebody should look at them on the contact sheet."""
    from cytonet_pipeline.histology import gaps

    path = Store(settings.store).section_scans(context.partition_key) / "sections.parquet"
    sections = read_table(path, "section_scans")
    odd = sections[sections["findings"].fillna("") != ""]
    told = [f"section {row.sample}: {row.reason}" for row in odd.itertuples()] + gaps(sections)
    return dg.AssetCheckResult(
        passed=not told,
        severity=dg.AssetCheckSeverity.WARN,
        description="\n\n".join(told) or "even",
        metadata={"sections that stand out": len(odd), "gaps": len(gaps(sections))},
    )


@dg.asset_check(
    asset="colin27_transforms",
    partitions_def=brains,
    description="The chain leads this brain's cortex onto the cortex of Colin-27, and does not fold space.",
)
def transforms_fit(context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]) -> dg.AssetCheckResult:
    """Handing over the inverse warp, or another brain's, is the commonest mistake."""
    return _checked(Verdict.read(Store(settings.store).colin27_transforms(context.partition_key)))


@dg.asset_check(
    asset="patch_index",
    partitions_def=brains,
    description="The index keeps its contract: columns, types, ranges, no patch twice.",
)
def index_keeps_its_contract(
    context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]
) -> dg.AssetCheckResult:
    """The file is read back and validated against the schema registry."""
    from cytonet_pipeline.errors import StoreError
    from cytonet_pipeline.store import table

    folder = Store(settings.store).patch_index(context.partition_key)
    verdict = Verdict.read(folder)
    if not verdict.ok:
        return _checked(verdict)
    try:
        rows = table("patch_index").validate(read_table(folder, "patch_index"))
    except StoreError as error:
        return dg.AssetCheckResult(passed=False, description=str(error))
    return dg.AssetCheckResult(passed=True, metadata={"patches": len(rows)})


def _checked(verdict: Verdict, remarks: dg.AssetCheckSeverity = dg.AssetCheckSeverity.WARN) -> dg.AssetCheckResult:
    """The verdict as a check: a failed one is an error, one that is usable with remarks of the severity given."""
    return dg.AssetCheckResult(
        passed=verdict.ok and not verdict.reasons,
        severity=dg.AssetCheckSeverity.ERROR if not verdict.ok else remarks,
        description="\n\n".join(verdict.reasons) or "sound",
    )
