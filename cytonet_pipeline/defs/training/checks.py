"""Checks of training sets and encoders. Blocking: a leaking split or a collapsed encoder must not be evaluated.

A blocking check acts within one run only; the verdicts that these checks report are read by all later stages, too.
"""

import dagster as dg

from cytonet_pipeline.defs.partitions import encoders
from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import ENCODER, TRAINING_SET
from cytonet_pipeline.stages.stage import store_of

_MOST_NAMED = 12


@dg.asset_check(
    asset="training_set",
    partitions_def=encoders,
    blocking=True,
    description="No training patch lies in a test section, in a gap, or in the unseen brain.",
)
def nothing_leaks(context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]) -> dg.AssetCheckResult:
    """Report the verdict of the stage, which trains nothing on a training set that leaks, in whichever run."""
    verdict = TRAINING_SET.verdict(settings, context.partition_key)
    return dg.AssetCheckResult(passed=verdict.ok, description="; ".join(verdict.reasons) or "nothing leaks")


@dg.asset_check(
    asset="encoder",
    partitions_def=encoders,
    blocking=True,
    description="The features have not collapsed and the training ended as it should.",
)
def encoder_is_healthy(
    context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]
) -> dg.AssetCheckResult:
    """Effective rank below 5 or a mean cosine above 0.95 after warm-up is an error; with labels, a remark."""
    verdict = ENCODER.verdict(settings, context.partition_key)
    return dg.AssetCheckResult(passed=verdict.ok, description="; ".join(verdict.reasons) or "healthy")


@dg.asset_check(
    asset="encoder",
    partitions_def=encoders,
    description="Nothing has happened to the sections that the version in use learned from or is tested on.",
)
def sections_unchanged(
    context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]
) -> dg.AssetCheckResult:
    """List sections that were withdrawn, replaced or changed, or have vanished since."""
    from cytonet_pipeline.lineage import sections_changed_under

    encoder = context.partition_key
    try:
        changed = sections_changed_under(encoder, settings, store_of(settings))
    except CytonetError as error:
        return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN, description=f"not known: {error}")
    lines = [f"{brain}/{sample}: {text}" for (brain, sample), text in sorted(changed.items())]
    more = [f"and {len(lines) - _MOST_NAMED} more: cytonet lineage encoder {encoder}"] * (len(lines) > _MOST_NAMED)
    return dg.AssetCheckResult(
        passed=not lines,
        severity=dg.AssetCheckSeverity.WARN,
        description="\n".join([*lines[:_MOST_NAMED], *more]) or "as they were",
    )
