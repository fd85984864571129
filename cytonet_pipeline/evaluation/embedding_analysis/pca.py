"""Principal components of features, their signs fixed: what UMAP starts from, and the axis that is shown beside it."""

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA


@dataclass(frozen=True)
class Components:
    """Principal components of N rows.

    Attributes
    ----------
    scores : (N, K) float32 array
    explained : (K,) float64 array
        Share of the variance that each explains.
    """

    scores: np.ndarray
    explained: np.ndarray


def principal_components(features: np.ndarray, most: int, seed: int) -> Components:
    """Reduce (N, D) features to at most `most` principal components.

    Features go in as they are, centred and not scaled: what varies little must not be blown up.
    """
    count = min(most, features.shape[1], len(features) - 1)
    model = PCA(n_components=count, svd_solver="auto", random_state=seed)
    scores = model.fit_transform(features.astype(np.float32, copy=False))
    # Constant features have no variance to share.
    return Components(scores, np.nan_to_num(model.explained_variance_ratio_.astype(np.float64)))


def align(axis: np.ndarray, guide: np.ndarray) -> tuple[np.ndarray, float]:
    """Turn an axis, whose sign means nothing, so that it rises with `guide`.

    Returns
    -------
    aligned : (N,) array
    correlation : float
        Pearson's, not negative; 0 where either is constant.
    """
    if len(axis) < 2 or np.ptp(axis) == 0 or np.ptp(guide) == 0:
        return axis, 0.0
    correlation = float(np.corrcoef(axis.astype(np.float64), guide.astype(np.float64))[0, 1])
    return (axis, correlation) if correlation >= 0 else (-axis, -correlation)
