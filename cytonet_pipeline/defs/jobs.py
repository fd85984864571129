"""The jobs. None spans two partition sets: Dagster refuses that. `cytonet run` walks them in order."""

import dagster as dg

reference = dg.define_asset_job(
    "reference",
    dg.AssetSelection.assets("reference_space"),
    description="Check the reference space: Colin-27, atlas and surfaces.",
)
ingest_brain = dg.define_asset_job(
    "ingest_brain",
    dg.AssetSelection.groups("histology"),
    description="One brain: inventory of its scans, transforms to Colin-27, patch index.",
)
train_encoder = dg.define_asset_job(
    "train_encoder",
    dg.AssetSelection.groups("training"),
    description="One encoder: decide what it may see, then train it.",
    # A run that waits for a cluster, for days perhaps, is one process and not two.
    executor_def=dg.in_process_executor,
)
evaluate_encoder = dg.define_asset_job(
    "evaluate_encoder",
    dg.AssetSelection.groups("evaluation") - dg.AssetSelection.assets("metrics_table"),
    description="One encoder: features, linear probes, UMAP and area maps.",
)
metrics = dg.define_asset_job(
    "metrics",
    dg.AssetSelection.assets("metrics_table"),
    description="The table of all encoders, protocols and splits.",
)
