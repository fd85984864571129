"""Checks of the brains: one that cannot be used fails them, by name, without stopping the others.

They read the verdict that the stage left in the store. They are errors and do not block, because one failed brain must
not fail everything after it; later stages look at the same verdicts themselves.
"""

import dagster as dg

from cytonet_pipeline.defs.partitions import brains
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import COLIN27_TRANSFORMS, SECTION_SCANS
from cytonet_pipeline.store import Verdict, read_table


@dg.asset_check(
    asset="section_scans",
    partitions_def=brains,
    description="The brain has usable sections, and no scan, mask, annotation or matrix of them is faulty.",
)
def scans_are_sound(
    context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]
) -> dg.AssetCheckResult:
    """Report faulty sections as errors to people; the pipeline goes on without them."""
    return _result_of(Verdict.read(SECTION_SCANS.folder(settings, context.partition_key)), dg.AssetCheckSeverity.ERROR)


@dg.asset_check(
    asset="section_scans",
    partitions_def=brains,
    description="No section stands out among its neighbours, and the series has no gaps.",
)
def sections_are_even(
    context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]
) -> dg.AssetCheckResult:
    """Warn only: sections that stand out take part; a person should look at them on the contact sheet."""
    from cytonet_pipeline.histology import gaps

    path = SECTION_SCANS.folder(settings, context.partition_key) / "sections.parquet"
    sections = read_table(path, "section_scans")
    odd = sections[sections["findings"].fillna("") != ""]
    findings = [f"section {row.sample}: {row.reason}" for row in odd.itertuples()] + gaps(sections)
    return dg.AssetCheckResult(
        passed=not findings,
        severity=dg.AssetCheckSeverity.WARN,
        description="\n\n".join(findings) or "even",
        metadata={"sections that stand out": len(odd), "gaps": len(gaps(sections))},
    )


@dg.asset_check(
    asset="colin27_transforms",
    partitions_def=brains,
    description="The chain leads this brain's cortex onto the cortex of Colin-27, and does not fold space.",
)
def transforms_fit(context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]) -> dg.AssetCheckResult:
    """Catch the commonest mistakes: the inverse warp, or the transform of another brain."""
    return _result_of(Verdict.read(COLIN27_TRANSFORMS.folder(settings, context.partition_key)))


def _result_of(verdict: Verdict, remarks: dg.AssetCheckSeverity = dg.AssetCheckSeverity.WARN) -> dg.AssetCheckResult:
    """Return a verdict as the result of a check: a failed one is an error, remarks have the severity given."""
    return dg.AssetCheckResult(
        passed=verdict.ok and not verdict.reasons,
        severity=dg.AssetCheckSeverity.ERROR if not verdict.ok else remarks,
        description="\n\n".join(verdict.reasons) or "sound",
    )
