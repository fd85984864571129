"""From a point in Colin-27 back to the sections: which training patches lie nearest to it."""

import numpy as np
import pandas as pd

from cytonet_pipeline.lineage.queries import folder_of
from cytonet_pipeline.store import REFERENCE_MM, Store, read_table


def nearest_training_sections(
    encoder: str, store: Store, point_mm: np.ndarray, version: str | None = None, *, most: int = 5
) -> pd.DataFrame:
    """Find the training sections of an encoder that come nearest to a point.

    Parameters
    ----------
    point_mm : (3,) array
        In Colin-27, RAS.
    version : str, optional
        Default: the one in use.
    most : int
        Number of sections to return at most.

    Returns
    -------
    DataFrame
        A row per section, the nearest first: `brain`, `sample`, `distance_mm` of its nearest patch that the encoder
        was given for training, `x_px`, `y_px` of that patch in the scan (full resolution), its `annotated_area` (0:
        none), and `n_patches` of the section that the encoder was given.

    Raises
    ------
    StoreError
        The encoder has not been trained, or has no such version.
    """
    path = folder_of(encoder, store, version) / "patches.parquet"
    columns = ["brain", "sample", "role", "x_px", "y_px", *REFERENCE_MM, "annotated_area"]
    patches = read_table(path, "training_patches", columns=columns, categories=("brain", "sample", "role"))
    patches = patches[patches["role"] == "train"]
    offsets = patches[list(REFERENCE_MM)].to_numpy(np.float64) - np.asarray(point_mm, np.float64)
    patches = patches.assign(distance_mm=np.linalg.norm(offsets, axis=1))
    sections = patches.groupby(["brain", "sample"], observed=True)["distance_mm"].agg(["idxmin", "size"])
    nearest = patches.loc[sections["idxmin"]].assign(n_patches=sections["size"].to_numpy())
    nearest = nearest.astype({"brain": str, "sample": str}).sort_values(["distance_mm", "brain", "sample"])
    kept = ["brain", "sample", "distance_mm", "x_px", "y_px", "annotated_area", "n_patches"]
    return nearest[kept].head(most).reset_index(drop=True)
