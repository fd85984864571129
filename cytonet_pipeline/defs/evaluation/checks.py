"""Checks of the evaluation: nothing was scored on what had been seen, and features, UMAP and maps are complete."""

from pathlib import Path
from typing import Any

import dagster as dg

from cytonet_pipeline.defs.partitions import encoders
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import AREA_MAPS, LINEAR_PROBE, PATCH_EMBEDDINGS, UMAP_PLOTS
from cytonet_pipeline.store import Store, read_record, read_table


@dg.asset_check(
    asset="patch_embeddings",
    partitions_def=encoders,
    description="Every patch that the evaluation needs has features, once, and they are finite numbers.",
)
def features_are_complete(
    context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]
) -> dg.AssetCheckResult:
    """Catch features of an older index and training that diverged: NaN features train a probe without an error."""
    import numpy as np

    from cytonet_pipeline.evaluation.features.embedding_store import read_embeddings
    from cytonet_pipeline.evaluation.features.evaluation_set import evaluation_set

    store, encoder = Store(settings.store), context.partition_key
    version = PATCH_EMBEDDINGS.folder(settings, encoder).name
    ids, features = read_embeddings(store, encoder, version, dtype=np.float16)
    needed = evaluation_set(store, encoder, version, settings)["patch_id"]
    missing = int((~needed.isin(ids)).sum())
    twice = len(ids) - len(np.unique(ids))
    not_finite = int((~np.isfinite(features).all(axis=1)).sum())
    return dg.AssetCheckResult(
        passed=not (missing or twice or not_finite) and len(needed) > 0,
        description=f"{len(needed)} patches needed: {missing} missing, {twice} twice, {not_finite} not finite",
        metadata={"patches": len(ids), "missing": missing, "twice": twice, "not finite": not_finite},
    )


@dg.asset_check(
    asset="linear_probe",
    partitions_def=encoders,
    description="Every scored patch lies in a test section or in the unseen brain of this encoder.",
)
def scored_patches_were_unseen(
    context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]
) -> dg.AssetCheckResult:
    """Compare the ids of scored patches with those that the training read, independently of roles and splits."""
    encoder = context.partition_key
    trained = Store(settings.store).current_encoder(encoder) / "patches.parquet"
    seen = set(read_table(trained, "training_patches", columns=["patch_id"])["patch_id"])
    scored: set[int] = set()
    for predictions in LINEAR_PROBE.table_files(settings, encoder)["predictions"]:
        scored |= set(read_table(predictions, "predictions", columns=["patch_id"])["patch_id"])
    return dg.AssetCheckResult(
        passed=bool(scored) and not seen & scored,
        metadata={"scored": len(scored), "seen in training": len(seen), "both": len(seen & scored)},
    )


@dg.asset_check(
    asset="umap_plots",
    partitions_def=encoders,
    description="Every patch of the sample has coordinates, they are finite, and they are not all in one place.",
)
def coordinates_are_complete(
    context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]
) -> dg.AssetCheckResult:
    """Catch a UMAP of another sample, and one of features that do not differ."""
    import numpy as np

    from cytonet_pipeline.evaluation.features.evaluation_set import evaluation_set

    store, encoder = Store(settings.store), context.partition_key
    folder = UMAP_PLOTS.folder(settings, encoder)
    shown = read_table(folder / "umap.parquet", "umap")
    rows = evaluation_set(store, encoder, folder.name, settings)
    sample = set(rows.loc[rows["in_umap"], "patch_id"])
    coordinates = shown[["umap_1", "umap_2"]].to_numpy()
    not_finite = int((~np.isfinite(coordinates).all(axis=1)).sum())
    differing = len(sample ^ set(shown["patch_id"]))
    spread = float(np.ptp(coordinates, axis=0).min()) if len(coordinates) and not not_finite else 0.0
    return dg.AssetCheckResult(
        passed=not differing and not not_finite and spread > 0,
        description=f"{len(sample)} patches in the sample: {differing} differ from the plot, {not_finite} not finite",
        metadata={"patches": len(shown), "differing": differing, "not finite": not_finite, "smaller extent": spread},
    )


@dg.asset_check(
    asset="area_maps",
    partitions_def=encoders,
    description="Every brain to map has a map, and its label volume, probabilities and label table agree.",
)
def maps_are_complete(
    context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]
) -> dg.AssetCheckResult:
    """Warn of brains that could not be mapped, with the reason; volumes that contradict each other are an error."""
    from cytonet_pipeline.evaluation.maps.area_maps import mapped_brains

    encoder = context.partition_key
    folder = AREA_MAPS.folder(settings, encoder)
    figures: dict[str, dict[str, Any]] = read_record(folder / "figures.json")["brains"]
    brains = mapped_brains(encoder, settings)
    not_mapped = [
        f"sub-{brain}: {figures.get(brain, {}).get('reason', 'no map')}"
        for brain in brains
        if not figures.get(brain, {}).get("mapped")
    ]
    faults = [fault for brain in brains if figures.get(brain, {}).get("mapped") for fault in map_faults(folder, brain)]
    return dg.AssetCheckResult(
        passed=not faults and not not_mapped,
        severity=dg.AssetCheckSeverity.ERROR if faults else dg.AssetCheckSeverity.WARN,
        description="\n\n".join([*faults, *not_mapped]) or f"{len(brains)} mapped",
        metadata={"brains": len(brains), "not mapped": len(not_mapped), "faults": len(faults)},
    )


def map_faults(folder: Path, brain: str) -> list[str]:
    """List how the label volume of a brain contradicts its probabilities or its label table."""
    import numpy as np
    import pandas as pd

    from cytonet_pipeline.errors import StoreError
    from cytonet_pipeline.evaluation.maps.label_volume import read_volume

    stem = f"sub-{brain}_space-MNIColin27_desc-predicted"
    try:
        labels, affine = read_volume(folder / f"{stem}_dseg.nii.gz")
        probability, its_affine = read_volume(folder / f"{stem}_probseg.nii.gz")
        known = set(pd.read_csv(folder / f"{stem}_dseg.tsv", sep="\t")["index"])
    except (StoreError, OSError, ValueError, KeyError) as error:
        return [f"sub-{brain}: {error}"]
    if labels.shape != probability.shape or not np.allclose(affine, its_affine):
        return [f"sub-{brain}: labels and probabilities are not on the same grid"]
    faults = []
    unknown = sorted(set(np.unique(labels).tolist()) - known - {0})
    if unknown:
        faults.append(f"sub-{brain}: labels {unknown} are not in {stem}_dseg.tsv")
    if not np.array_equal(labels > 0, probability > 0) or not (probability <= 1.0001).all():
        faults.append(f"sub-{brain}: labels without a probability between 0 and 1, or the other way round")
    if not (labels > 0).any():
        faults.append(f"sub-{brain}: no voxel has a label")
    return faults
