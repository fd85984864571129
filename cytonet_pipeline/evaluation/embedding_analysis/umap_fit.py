"""UMAP of principal components: two coordinates a row, the same on every run.

Random numbers come from one seed and one thread. Up to `MAX_FIT_ROWS` rows the neighbours are found exactly; of more, a
subset is fitted and the rest is placed by it.
"""

import warnings

import numpy as np
from sklearn.neighbors import NearestNeighbors

MAX_FIT_ROWS = 50_000
# UMAP's neighbour graph needs a few rows to be one.
MIN_ROWS = 10


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
        raise ValueError(f"a UMAP of {len(scores)} patches says nothing; at least {MIN_ROWS} are needed")
    from umap import UMAP  # compiles for seconds

    k = min(neighbors, len(scores) - 1)
    options = {"n_neighbors": k, "min_dist": min_dist, "init": "pca", "random_state": seed, "n_jobs": 1}
    if len(scores) <= fit_at_most:
        # Exact neighbours take a tenth of a second for 3,000 rows; UMAP's approximate search alone compiles for 20 s.
        distances, indices = NearestNeighbors(n_neighbors=k).fit(scores).kneighbors(scores)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*knn_search_index.*", category=UserWarning)
            model = UMAP(**options, precomputed_knn=(indices, distances))
        return np.asarray(_fitted(model, scores), dtype=np.float32)
    chosen = np.random.Generator(np.random.Philox(seed)).permutation(len(scores)) < fit_at_most
    model = UMAP(**options)
    placed = np.empty((len(scores), 2), dtype=np.float32)
    placed[chosen] = _fitted(model, scores[chosen])
    placed[~chosen] = model.transform(scores[~chosen])
    return placed


def _fitted(model: object, scores: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        # Said of every fit without a search index, whether or not anything is transformed later.
        warnings.filterwarnings("ignore", message=r".*knn_search_index.*", category=UserWarning)
        return model.fit_transform(scores)  # type: ignore[attr-defined]
