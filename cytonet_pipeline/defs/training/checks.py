"""Checks of training sets and encoders. Blocking: a leaking split or a collapsed encoder must not be evaluated."""

import dagster as dg

from cytonet_pipeline.defs.partitions import encoders
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store, read_record, read_table


@dg.asset_check(
    asset="training_set",
    partitions_def=encoders,
    blocking=True,
    description="No training patch lies in a test section, in a gap, or in the unseen brain.",
)
def nothing_leaks(context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]) -> dg.AssetCheckResult:
    """Pre-training without labels counts too: a run that saw test sections is another protocol."""
    store, encoder = Store(settings.store), context.partition_key
    folder = store.training_set(store.wanted_version(encoder) or "none")
    sections = read_table(folder / "sections.parquet", "training_sections")
    seen = sections[sections["n_training_patches"] > 0]
    leaking = seen[~seen["role"].isin(["train", "validation"]) | (seen["brain"] == settings.held_out(encoder))]
    return dg.AssetCheckResult(
        passed=leaking.empty and not seen.empty,
        metadata={"sections seen": len(seen), "leaking": [f"{r.brain}/{r.sample}" for r in leaking.itertuples()]},
    )


@dg.asset_check(
    asset="encoder",
    partitions_def=encoders,
    blocking=True,
    description="The features have not collapsed and the training ended as it should.",
)
def encoder_is_healthy(
    context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]
) -> dg.AssetCheckResult:
    """Effective rank below 5 or a mean cosine above 0.95 after warm-up is an error."""
    folder = Store(settings.store).current_encoder(context.partition_key)
    problems = read_record(folder / "encoder.json").get("problems", [])
    return dg.AssetCheckResult(passed=not problems, description="; ".join(problems) or "healthy")
