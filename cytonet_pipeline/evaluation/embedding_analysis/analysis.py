"""What the features of an encoder know beside areas: brains, the central sulcus, and whether they have collapsed."""

import numpy as np
import pandas as pd
import torch

from cytonet_pipeline.evaluation.embedding_analysis.brain_separation import brain_separation
from cytonet_pipeline.evaluation.embedding_analysis.central_sulcus import central_sulcus_step
from cytonet_pipeline.learning.measures import effective_rank, mean_cosine


def analyse_embedding(
    features: np.ndarray, rows: pd.DataFrame, names: pd.DataFrame, *, k: int = 20, seed: int = 0
) -> dict[str, object]:
    """Measure a set of features.

    Parameters
    ----------
    features : (N, D) array
    rows : DataFrame
        N rows of `evaluation_set`; the unbiased sample (`in_umap`) is measured where it is marked, all annotated rows
        only for the central sulcus.
    names : DataFrame
        `index` and `name` of annotated areas.
    k : int
        Neighbours looked at.

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
