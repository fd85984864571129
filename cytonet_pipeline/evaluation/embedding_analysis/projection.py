"""The UMAP of an encoder: coordinates of a sample of patches, how brains and areas separate, and surface maps.

Figures of it are drawn in `reporting`.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.errors import DataFault
from cytonet_pipeline.evaluation.embedding_analysis.brain_separation import brain_separation
from cytonet_pipeline.evaluation.embedding_analysis.central_sulcus import central_sulcus_step
from cytonet_pipeline.evaluation.embedding_analysis.reduction import (
    MAX_FIT_ROWS,
    MIN_ROWS,
    align,
    principal_components,
    umap_coordinates,
)
from cytonet_pipeline.evaluation.embedding_analysis.surface_map import onto_surface, reach_mm, write_func
from cytonet_pipeline.evaluation.features.embedding_store import read_embeddings
from cytonet_pipeline.evaluation.features.evaluation_set import evaluation_set
from cytonet_pipeline.learning.measures import effective_rank, mean_cosine
from cytonet_pipeline.progress import task
from cytonet_pipeline.registration import ReferenceSpace
from cytonet_pipeline.settings import EvaluationBlock, Settings
from cytonet_pipeline.store import (
    REFERENCE_MM,
    Store,
    write_record,
    write_table,
)

COMPONENTS = 50


def write_umap(folder: Path, encoder: str, settings: Settings, store: Store, parameters: Mapping[str, object]) -> None:
    """Write `umap.parquet`, `figures.json` (numbers) and the surface maps of the current version of an encoder.

    Parameters
    ----------
    parameters : mapping
        What the coordinates are made from, for the metadata of the table.

    Raises
    ------
    DataFault
        Too few patches are embedded, or all have the same features.
    """
    version = store.current_encoder(encoder).name
    block = settings.experiments.evaluation
    with task(f"UMAP of {encoder}") as progress:
        rows, features = embedded_rows(store, encoder, version, settings)
        shown = rows["in_umap"].to_numpy()
        progress.to(0, f"{shown.sum()} patches")
        coordinates, figures = project(features[shown], rows[shown], block)
        names = Dataset(settings.data, settings.experiments.dataset).area_names()
        figures["embedding"] = analyse_embedding(features, rows, names, k=block.knn_k, seed=block.seed)
        reference = ReferenceSpace.load(settings.reference)
        columns = ["patch_id", "umap_1", "umap_2"]
        write_table(folder / "umap.parquet", coordinates[columns], "umap", {"encoder": encoder, **parameters})
        figures["surface"] = _write_surface_maps(folder, encoder, coordinates, reference, settings.held_out(encoder))
        write_record(folder / "figures.json", figures)


def embedded_rows(store: Store, encoder: str, version: str, settings: Settings) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the rows of `evaluation_set` that have features, and those features (N, D) as float32."""
    rows = evaluation_set(store, encoder, version, settings)
    ids, features = read_embeddings(store, encoder, version)
    place = pd.Index(ids).get_indexer(pd.Index(rows["patch_id"]))
    return rows[place >= 0].reset_index(drop=True), features[place[place >= 0]]


def project(features: np.ndarray, rows: pd.DataFrame, block: EvaluationBlock) -> tuple[pd.DataFrame, dict[str, object]]:
    """Reduce features to two UMAP dimensions, the first with the sign that makes it rise from posterior to anterior.

    Parameters
    ----------
    features : (N, D) array
    rows : DataFrame
        N rows with `patch_id`, `brain`, `hemisphere` and `ref_x_mm` … `ref_z_mm`.

    Returns
    -------
    coordinates : DataFrame
        `rows` with `umap_1`, `umap_2` and `pca_1`.
    figures : dict
        Numbers and settings, for `figures.json`.

    Raises
    ------
    DataFault
        Too few rows, or all have the same features.
    """
    if len(rows) < MIN_ROWS:
        raise DataFault(
            f"UMAP: {len(rows)} patches are too few (at least {MIN_ROWS}).",
            to_fix="lower umap_every in the evaluation block, or raise density_per_mm3",
        )
    if not np.ptp(features, axis=0).any():
        raise DataFault(
            f"UMAP: all {len(rows)} patches have the same features, which no plane can show.",
            to_fix="look at the encoder's training (curves.png in its folder) and at its patches, then train it again",
            meanwhile="its probes and other encoders go on",
        )
    components = principal_components(features, COMPONENTS, block.seed)
    placed = umap_coordinates(
        components.scores, neighbors=block.umap_neighbors, min_dist=block.umap_min_dist, seed=block.seed
    )
    anterior_mm = rows["ref_y_mm"].to_numpy()
    umap_1, umap_correlation = align(placed[:, 0], anterior_mm)
    pca_1, pca_correlation = align(components.scores[:, 0], anterior_mm)
    coordinates = rows.reset_index(drop=True).assign(umap_1=umap_1, umap_2=placed[:, 1], pca_1=pca_1)
    figures: dict[str, object] = {
        "n_patches": len(rows),
        "n_patches_by_brain": {str(brain): int(n) for brain, n in rows["brain"].value_counts(sort=False).items()},
        "n_fitted": min(len(rows), MAX_FIT_ROWS),
        "pca_components": len(components.explained),
        "pca_explained": [round(float(share), 5) for share in components.explained],
        "pca_explained_total": round(float(components.explained.sum()), 5),
        "umap_1_anterior_correlation": round(umap_correlation, 4),
        "pca_1_anterior_correlation": round(pca_correlation, 4),
        "sign": "the sign of a UMAP or PCA axis is arbitrary: turned so that it rises towards anterior",
    }
    return coordinates, figures


def analyse_embedding(
    features: np.ndarray, rows: pd.DataFrame, names: pd.DataFrame, *, k: int = 20, seed: int = 0
) -> dict[str, object]:
    """Measure what features tell beside areas: brains, the central sulcus, and whether they have collapsed.

    Parameters
    ----------
    features : (N, D) array
    rows : DataFrame
        N rows of `evaluation_set`. The central sulcus is measured on all annotated rows, everything else on the
        unbiased sample (`in_umap`) where the column exists.
    names : DataFrame
        `index` and `name` of annotated areas.
    k : int
        Number of neighbours.

    Returns
    -------
    dict
        Numbers that JSON can hold, None where something cannot be measured: `effective_rank`, `mean_cosine`, `brains`
        (`brain_separation`) and `central_sulcus` (`central_sulcus_step`).
    """
    shown = rows["in_umap"].to_numpy() if "in_umap" in rows else np.ones(len(rows), dtype=bool)
    sample = features[shown]
    brains = rows.loc[shown, "brain"].to_numpy().astype(str)
    areas = rows.loc[shown, "annotated_area"].to_numpy()
    return {
        "effective_rank": round(float(effective_rank(torch.from_numpy(sample))), 4),
        "mean_cosine": round(float(mean_cosine(torch.from_numpy(sample))), 5),
        "brains": brain_separation(sample, brains, areas, k=k, seed=seed),
        "central_sulcus": central_sulcus_step(features, rows, names, seed=seed),
    }


def _write_surface_maps(
    folder: Path, encoder: str, coordinates: pd.DataFrame, reference: ReferenceSpace, held_out: str
) -> dict[str, object]:
    """Write maps of the first UMAP and PCA dimension on the white surface; return their numbers.

    They are of the unseen brain, or of all brains if it has no patches.
    """
    of_held_out = coordinates[coordinates["brain"] == held_out]
    rows = of_held_out if len(of_held_out) else coordinates
    brains = ", ".join(sorted(rows["brain"].unique()))
    points_mm = rows[list(REFERENCE_MM)].to_numpy(np.float64)
    vertices_mm = {side: reference.surface(side, "white")[0] for side in ("L", "R")}
    radius_mm = reach_mm(np.concatenate([vertices_mm["L"], vertices_mm["R"]]), points_mm)
    figures: dict[str, object] = {"brains": brains, "radius_mm": radius_mm}
    metadata = {"Brains": brains, "RadiusMillimetres": str(radius_mm), "Surface": "white", "Encoder": encoder}
    for side in ("L", "R"):
        of_side = (rows["hemisphere"] == side).to_numpy()
        for column in ("umap_1", "pca_1"):
            values = onto_surface(
                vertices_mm[side], points_mm[of_side], rows.loc[of_side, column].to_numpy(), radius_mm
            )
            name = f"{encoder}_hemi-{side}_desc-{column.replace('_', '')}.func.gii"
            write_func(folder / name, values, side, metadata)
        figures[f"covered_share_{side}"] = round(float(np.isfinite(values).mean()), 4)
    return figures
