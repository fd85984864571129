"""How far brains separate in feature space, which the poster shows but does not quantify.

Two measures: the neighbours of each patch, and silhouettes by brain and by area. Both are repeated after removing each
brain's mean: separation that remains is more than an offset.
"""

import numpy as np
import torch
from sklearn.metrics import silhouette_score

from cytonet_pipeline.learning.measures import same_brain_excess

# A silhouette compares all pairs of rows.
MAX_SILHOUETTE_ROWS = 10_000


def brain_separation(
    features: np.ndarray, brains: np.ndarray, areas: np.ndarray, *, k: int, seed: int
) -> dict[str, float | int | None]:
    """Measure how well the features separate brains, and areas.

    Parameters
    ----------
    features : (N, D) array
    brains : (N,) array of str
    areas : (N,) int array
        Annotated area; 0: none.
    k : int
        Number of neighbours.

    Returns
    -------
    dict
        `same_brain_excess` (share of same-brain neighbours over chance: 1 is none), `silhouette_by_brain`,
        `silhouette_by_area`; the same with `_centred` after each brain's mean is removed. None where there is only one
        brain or area.
    """
    few = _sample(len(features), MAX_SILHOUETTE_ROWS, seed)
    features, brains, areas = features[few].astype(np.float32), brains[few], areas[few]
    _, codes = np.unique(brains, return_inverse=True)
    measured: dict[str, float | int | None] = {"n_patches": len(features), "k": k}
    for suffix, vectors in (("", features), ("_centred", without_brain_means(features, brains))):
        unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        measured[f"same_brain_excess{suffix}"] = _excess(unit, codes, k)
        measured[f"silhouette_by_brain{suffix}"] = _silhouette(unit, brains)
        known = areas > 0
        measured[f"silhouette_by_area{suffix}"] = _silhouette(unit[known], areas[known])
    return measured


def without_brain_means(features: np.ndarray, brains: np.ndarray) -> np.ndarray:
    """Return features minus the mean of their brain, (N, D)."""
    centred = features.copy()
    for brain in np.unique(brains):
        centred[brains == brain] -= features[brains == brain].mean(axis=0)
    return centred


def _excess(unit: np.ndarray, codes: np.ndarray, k: int) -> float | None:
    if codes.max(initial=0) < 1:
        return None
    return _rounded(same_brain_excess(torch.from_numpy(unit), torch.from_numpy(codes), k))


def _silhouette(unit: np.ndarray, groups: np.ndarray) -> float | None:
    # Groups of a single row have no silhouette.
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    kept = counts[inverse] > 1 if len(groups) else np.zeros(0, dtype=bool)
    if (counts > 1).sum() < 2:
        return None
    return _rounded(float(silhouette_score(unit[kept], inverse[kept])))


def _sample(n: int, at_most: int, seed: int) -> np.ndarray:
    if n <= at_most:
        return np.arange(n)
    return np.sort(np.random.Generator(np.random.Philox(seed)).choice(n, at_most, replace=False))


def _rounded(value: float) -> float:
    return round(value, 5)
