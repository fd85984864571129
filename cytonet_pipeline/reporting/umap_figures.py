"""All figures of an encoder's UMAP, drawn beside its coordinates in the store."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.evaluation.embedding_analysis.surface_map import read_func
from cytonet_pipeline.patches import read_index
from cytonet_pipeline.registration import ReferenceSpace
from cytonet_pipeline.reporting.surface_figure import surface_page, surface_picture
from cytonet_pipeline.reporting.umap_drawings import umap_pictures
from cytonet_pipeline.reporting.umap_page import hover_columns, write_page
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store, is_drawn, read_record, read_table, record_drawings

# Columns of the patch index that the figures need; the page adds what it shows on hovering.
_INDEX = ("patch_id", "brain", "annotated_area", "ref_y_mm")
_SURFACES = {"umap1": "UMAP 1", "pca1": "PCA 1"}


def umap_figures(encoder: str, settings: Settings, store: Store) -> Mapping[str, Path]:
    """Draw the figures of the current version, if they are not there as they were drawn.

    Returns
    -------
    mapping
        PNGs to show, by title.
    """
    folder = store.umap(encoder, store.current_encoder(encoder).name)
    pictures = {
        "UMAP by area": folder / "umap_by-area.png",
        "UMAP by brain": folder / "umap_by-brain.png",
        "UMAP by place": folder / "umap_by-anterior.png",
        "UMAP 1 on the surface": folder / f"{encoder}_desc-umap1_surface.png",
        "PCA 1 on the surface": folder / f"{encoder}_desc-pca1_surface.png",
    }
    pages = [folder / "umap.html", *(folder / f"{encoder}_hemi-{side}_desc-umap1_surface.html" for side in "LR")]
    if is_drawn(folder, [*pictures.values(), *pages]):
        return pictures
    figures = read_record(folder / "figures.json")
    names = Dataset(settings.data, settings.experiments.dataset).area_names()
    points, title = umap_points(folder, figures, store), f"UMAP of {encoder}"
    umap_pictures(points, names, folder, title)
    write_page(points, names, folder / "umap.html", title)
    _surfaces(folder, encoder, ReferenceSpace.load(settings.reference), figures)
    record_drawings(folder)
    return pictures


def umap_points(folder: Path, figures: Mapping[str, Any], store: Store) -> pd.DataFrame:
    """Read the coordinates of `umap.parquet`, with the columns of the patch index that the figures need."""
    coordinates = read_table(folder / "umap.parquet", "umap")
    brains = sorted(figures["n_patches_by_brain"])
    columns = list(dict.fromkeys([*_INDEX, *hover_columns()]))
    index = pd.concat([read_index(store, brain, columns=columns) for brain in brains], ignore_index=True)
    return coordinates.merge(index, on="patch_id", how="inner", validate="one_to_one")


def _surfaces(folder: Path, encoder: str, reference: ReferenceSpace, figures: Mapping[str, Any]) -> None:
    surface = figures["surface"]
    for column, name in _SURFACES.items():
        values = {side: read_func(folder / f"{encoder}_hemi-{side}_desc-{column}.func.gii") for side in "LR"}
        title = f"{encoder}: {name} of {surface['brains']} (mean within {surface['radius_mm']:g} mm; grey: no patch)"
        path = folder / f"{encoder}_desc-{column}_surface.png"
        surface_picture(reference, values, path, title, f"{name} (sign: anterior)")
        if column == "umap1":
            for side in "LR":
                page = folder / f"{encoder}_hemi-{side}_desc-{column}_surface.html"
                surface_page(reference, values, side, page, f"{encoder}: {name}")
