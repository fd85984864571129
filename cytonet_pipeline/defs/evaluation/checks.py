"""Checks of the evaluation: the tables keep their contract, and nothing was scored on what had been seen."""

import dagster as dg

from cytonet_pipeline.defs.partitions import encoders
from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store, read_table, table


@dg.asset_check(
    asset="linear_probe",
    partitions_def=encoders,
    description="Every scored patch lies in a test section or in the unseen brain of this encoder.",
)
def scored_patches_were_unseen(
    context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]
) -> dg.AssetCheckResult:
    """Compared by patch id with what the training read, not by the roles that both sides were told."""
    store, encoder = Store(settings.store), context.partition_key
    folder = store.current_encoder(encoder)
    seen = set(read_table(folder / "patches.parquet", "training_patches", columns=["patch_id"])["patch_id"])
    scored: set[int] = set()
    for predictions in store.linear_probes(encoder, folder.name).glob("*/predictions.parquet"):
        scored |= set(read_table(predictions, "predictions", columns=["patch_id"])["patch_id"])
    return dg.AssetCheckResult(
        passed=bool(scored) and not seen & scored,
        metadata={"scored": len(scored), "seen in training": len(seen), "both": len(seen & scored)},
    )


@dg.asset_check(asset="metrics_table", description="The table keeps its contract and names no experiment twice.")
def metrics_keep_their_contract(settings: dg.ResourceParam[Settings]) -> dg.AssetCheckResult:
    """Other programs read these columns."""
    identity = ["encoder", "version", "protocol", "labels_per_area", "draw", "split"]
    try:
        rows = table("metrics").validate(read_table(Store(settings.store).metrics() / "metrics.parquet", "metrics"))
    except CytonetError as error:
        return dg.AssetCheckResult(passed=False, description=str(error))
    twice = int(rows.duplicated(identity).sum())
    return dg.AssetCheckResult(passed=not twice, metadata={"rows": len(rows), "twice": twice})
