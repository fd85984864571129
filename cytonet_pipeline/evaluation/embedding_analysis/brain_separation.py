"""How far brains separate in the space of the features, as the poster shows and no figure of it measures.

Two views: of each patch's neighbours, and of silhouettes by brain and by area. Both again after each brain's mean is
taken away: what is left then is not a mere offset.
"""

import numpy as np
import torch
from sklearn.metrics import silhouette_score

from cytonet_pipeline.learning.measures import same_brain_excess

# A silhouette compares all pairs.
MAX_SILHOUETTE_ROWS = 10_000


def brain_separation(
    features: np.ndarray, brains: np.ndarray, areas: np.ndarray, *, k: int, seed: int
) -> dict[str, float | int | None]:
    """Measure how much the features tell brains apart, and areas.

    Parameters
    ----------
    features : (N, D) array
    brains : (N,) array of str
    areas : (N,) int array
        Annotated area; 0: none.
    k : int
        Neighbours looked at.

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
    found: dict[str, float | int | None] = {"n_patches": len(features), "k": k}
    for suffix, vectors in (("", features), ("_centred", without_brain_means(features, brains))):
        unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        found[f"same_brain_excess{suffix}"] = _excess(unit, codes, k)
        found[f"silhouette_by_brain{suffix}"] = _silhouette(unit, brains)
        known = areas > 0
        found[f"silhouette_by_area{suffix}"] = _silhouette(unit[known], areas[known])
    return found


def without_brain_means(features: np.ndarray, brains: np.ndarray) -> np.ndarray:
    """Features with the mean of their brain taken away, (N, D)."""
    centred = features.copy()
    for brain in np.unique(brains):
        centred[brains == brain] -= features[brains == brain].mean(axis=0)
    return centred


def _excess(unit: np.ndarray, codes: np.ndarray, k: int) -> float | None:
    if codes.max(initial=0) < 1:
        return None
    return _rounded(same_brain_excess(torch.from_numpy(unit), torch.from_numpy(codes), k))


def _silhouette(unit: np.ndarray, groups: np.ndarray) -> float | None:
    # Groups of one row have no silhouette of their own.
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
