"""The nearest candidate of each query in feature space, in chunks on both sides: no queries × candidates matrix.

Exact, unlike an index of approximate neighbours; on a GPU where there is one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from cytonet_pipeline.evaluation.probes.threads import threads_for
from cytonet_pipeline.learning.device import compute_device
from cytonet_pipeline.learning.measures import Metric

# 128 MiB of similarities at once.
QUERIES_AT_ONCE, CANDIDATES_AT_ONCE = 2048, 16_384


@dataclass(frozen=True)
class FeatureRows:
    """Some rows of a table of features, gathered a chunk at a time: the table is never copied.

    Attributes
    ----------
    features : (N, D) array
    index : (M,) int array
        Rows of `features`.
    """

    features: np.ndarray
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, part: slice) -> np.ndarray:
        """Return the features of a chunk, (m, D)."""
        return self.features[self.index[part]]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of features."""
        return len(self.index), self.features.shape[1]


# Tells which pairs of some queries (rows) and some candidates (columns) do not count.
Barred = Callable[[slice, slice], np.ndarray]


def nearest(
    queries: np.ndarray | FeatureRows,
    candidates: np.ndarray | FeatureRows,
    metric: Metric = "cosine",
    barred: Barred | None = None,
) -> np.ndarray:
    """Return the nearest candidate of each query.

    Parameters
    ----------
    queries, candidates : (M, D), (N, D) arrays or FeatureRows
        Of any float type; chunks are converted to float32, never the whole.
    metric : {"cosine", "euclidean"}
        Largest cosine, or smallest distance.
    barred : callable, optional
        Returns which pairs of two slices are no candidates, (m, n) bool.

    Returns
    -------
    (M,) int64 array
        Index among the candidates, of equally near ones the first; -1 where there is no candidate.
    """
    device = compute_device()
    found = np.full(len(queries), -1, dtype=np.int64)
    multiplications = min(len(queries), QUERIES_AT_ONCE) * min(len(candidates), CANDIDATES_AT_ONCE) * queries.shape[1]
    with threads_for(multiplications):
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            rows = slice(start, min(start + QUERIES_AT_ONCE, len(queries)))
            best = torch.full((rows.stop - rows.start,), -torch.inf, device=device)
            index = torch.full((rows.stop - rows.start,), -1, dtype=torch.int64, device=device)
            own = _on(device, queries[rows], metric)
            for first in range(0, len(candidates), CANDIDATES_AT_ONCE):
                columns = slice(first, min(first + CANDIDATES_AT_ONCE, len(candidates)))
                similarity = _similarity(own, _on(device, candidates[columns], metric), metric)
                if barred is not None:
                    similarity[torch.from_numpy(barred(rows, columns)).to(device)] = -torch.inf
                value, place = similarity.max(dim=1)
                better = value > best
                best = torch.where(better, value, best)
                index = torch.where(better, place + first, index)
            found[rows] = index.cpu().numpy()
    return found


def _on(device: torch.device, features: np.ndarray, metric: Metric) -> torch.Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32)).to(device)
    return functional.normalize(tensor, dim=1) if metric == "cosine" else tensor


def _similarity(queries: torch.Tensor, candidates: torch.Tensor, metric: Metric) -> torch.Tensor:
    if metric == "cosine":
        return queries @ candidates.T
    return -torch.cdist(queries, candidates, compute_mode="donot_use_mm_for_euclid_dist")
