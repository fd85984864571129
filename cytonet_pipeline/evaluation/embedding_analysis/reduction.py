"""Dimensionality reduction: principal components, and UMAP of them in the plane; the same on every run.

UMAP draws its random numbers from one seed in one thread. Up to `MAX_FIT_ROWS` rows the neighbours are found exactly;
with more rows, UMAP is fitted to a subset and the other rows are placed by the fitted model.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

MAX_FIT_ROWS = 50_000
# UMAP's neighbour graph needs a few rows.
MIN_ROWS = 10


@dataclass(frozen=True)
class Components:
    """Principal components of N rows.

    Attributes
    ----------
    scores : (N, K) float32 array
    explained : (K,) float64 array
        Share of the variance that each component explains.
    """

    scores: np.ndarray
    explained: np.ndarray


def principal_components(features: np.ndarray, most: int, seed: int) -> Components:
    """Reduce (N, D) features to at most `most` principal components.

    Features are centred and not scaled: those that vary little must not be magnified.
    """
    count = min(most, features.shape[1], len(features) - 1)
    model = PCA(n_components=count, svd_solver="auto", random_state=seed)
    scores = model.fit_transform(features.astype(np.float32, copy=False))
    # Constant features have no variance to share.
    return Components(scores, np.nan_to_num(model.explained_variance_ratio_.astype(np.float64)))


def align(axis: np.ndarray, guide: np.ndarray) -> tuple[np.ndarray, float]:
    """Flip the sign of an axis, which is arbitrary, so that the axis rises with `guide`.

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


def umap_coordinates(
    scores: np.ndarray, *, neighbors: int, min_dist: float, seed: int, fit_at_most: int = MAX_FIT_ROWS
) -> np.ndarray:
    """Embed rows in the plane (McInnes, Healy and Melville 2018, arXiv 1802.03426).

    Parameters
    ----------
    scores : (N, K) array
        Principal components.

    Returns
    -------
    (N, 2) float32 array

    Raises
    ------
    ValueError
        Fewer than `MIN_ROWS` rows.
    """
    if len(scores) < MIN_ROWS:
        raise ValueError(f"a UMAP needs at least {MIN_ROWS} patches, not {len(scores)}")
    from umap import UMAP  # compiles for seconds

    k = min(neighbors, len(scores) - 1)
    options = {"n_neighbors": k, "min_dist": min_dist, "init": "pca", "random_state": seed, "n_jobs": 1}
    if len(scores) <= fit_at_most:
        # Exact neighbours take a tenth of a second for 3,000 rows; UMAP's approximate search alone compiles for 20 s.
        distances, indices = NearestNeighbors(n_neighbors=k).fit(scores).kneighbors(scores)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*knn_search_index.*", category=UserWarning)
            model = UMAP(**options, precomputed_knn=(indices, distances))
        return np.asarray(_fit(model, scores), dtype=np.float32)
    chosen = np.random.Generator(np.random.Philox(seed)).permutation(len(scores)) < fit_at_most
    model = UMAP(**options)
    placed = np.empty((len(scores), 2), dtype=np.float32)
    placed[chosen] = _fit(model, scores[chosen])
    placed[~chosen] = model.transform(scores[~chosen])
    return placed


def _fit(model: object, scores: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        # Issued at every fit without a search index, whether or not anything is transformed later.
        warnings.filterwarnings("ignore", message=r".*knn_search_index.*", category=UserWarning)
        return model.fit_transform(scores)  # type: ignore[attr-defined]
