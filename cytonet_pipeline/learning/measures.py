"""Measures of features: how many dimensions they use, how they group by brain, what their neighbours are.

Monitored during training and reported by the evaluation. Computed in chunks: N × N matrices are never held.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from torch.nn import functional

_CHUNK = 2048
Metric = Literal["cosine", "euclidean"]


def effective_rank(features: torch.Tensor) -> float:
    """Return the number of dimensions that features spread over.

    It is exp of the entropy of their spectrum (Roy & Vetterli 2007).

    Parameters
    ----------
    features : (N, D) tensor
        They are centred first; the spectrum is that of the singular values.

    Returns
    -------
    float
        From 1 (collapsed onto a line) to D; 0 for features that are all the same.
    """
    centred = features.double() - features.double().mean(0)
    values = torch.linalg.svdvals(centred)
    share = values / values.sum().clamp(min=1e-300)
    if float(values.sum()) <= 1e-12:
        return 0.0
    return float(torch.exp(-torch.special.xlogy(share, share).sum()))


def mean_cosine(features: torch.Tensor) -> float:
    """Return the mean cosine between different features (N, D): 1 where all point the same way."""
    units = functional.normalize(features.double(), dim=1)
    n = len(units)
    # The sum over all pairs is the squared length of the sum.
    return float((units.sum(0).square().sum() - units.square().sum()) / (n * (n - 1))) if n > 1 else 0.0


def uniformity(features: torch.Tensor) -> float:
    """Return the log of the mean of exp(-2 d²) over pairs on the sphere: lower is more even (Wang & Isola 2020)."""
    units = functional.normalize(features.float(), dim=1)
    n = len(units)
    total = 0.0
    for start in range(0, n, _CHUNK):
        total += float(torch.exp(4 * (units[start : start + _CHUNK] @ units.T) - 4).double().sum())
    return float(torch.tensor((total - n) / (n * (n - 1)), dtype=torch.float64).log())


def same_brain_excess(features: torch.Tensor, brains: torch.Tensor, k: int = 20) -> float:
    """Return how much the neighbours of features give away the brain.

    Parameters
    ----------
    features : (N, D) tensor
    brains : (N,) integer tensor
    k : int
        Number of nearest neighbours (by cosine).

    Returns
    -------
    float
        Share of neighbours from the same brain, over the share that chance would give: 1 where brains mix. NaN for
        fewer than two brains.
    """
    n = len(features)
    _, counts = torch.unique(brains, return_counts=True)
    chance = float((counts.double() * (counts - 1)).sum() / (n * max(n - 1, 1)))
    if len(counts) < 2 or chance == 0:
        return float("nan")
    same = 0.0
    for rows, near in _neighbours(features, features, min(k, n - 1), "cosine", skip_self=True):
        same += float((brains[near[1]] == brains[rows, None]).double().mean(1).sum())
    return same / n / chance


def knn_predict(
    train: torch.Tensor,
    labels: torch.Tensor,
    test: torch.Tensor,
    k: int = 20,
    temperature: float = 0.07,
    *,
    metric: Metric = "cosine",
) -> torch.Tensor:
    """Predict labels (M,) of `test` by weighted vote of the nearest `train` features; see `knn_probabilities`."""
    classes, probabilities = knn_probabilities(train, labels, test, k, temperature, metric=metric)
    return classes[probabilities.argmax(1)]


def knn_probabilities(
    train: torch.Tensor,
    labels: torch.Tensor,
    test: torch.Tensor,
    k: int = 20,
    temperature: float = 0.07,
    *,
    metric: Metric = "cosine",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the shares of the nearest neighbours' votes, weighted by exp(similarity / temperature), as in DINOv2.

    Parameters
    ----------
    train, test : (N, D), (M, D) tensors
    labels : (N,) integer tensor
    k : int
        Voters.
    temperature : float
        Of the weights; for `euclidean` in the features' unit.
    metric : {"cosine", "euclidean"}
        Similarity: the cosine, or minus the distance (for positions).

    Returns
    -------
    classes, probabilities : (C,), (M, C) tensors
        Sorted labels, and each one's share of the votes.
    """
    classes, codes = torch.unique(labels, return_inverse=True)
    shares = torch.zeros(len(test), len(classes), dtype=torch.float32, device=test.device)
    for rows, (similarity, near) in _neighbours(train, test, min(k, len(train)), metric):
        votes = torch.softmax(similarity / temperature, 1)
        shares[rows] = shares[rows].scatter_add(1, codes[near], votes)
    return classes, shares


def _neighbours(
    train: torch.Tensor, test: torch.Tensor, k: int, metric: Metric, *, skip_self: bool = False
) -> Iterator[tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]]:
    train, test = train.float(), test.float()
    if metric == "cosine":
        train, test = functional.normalize(train, dim=1), functional.normalize(test, dim=1)
    for start in range(0, len(test), _CHUNK):
        rows = torch.arange(start, min(start + _CHUNK, len(test)), device=test.device)
        if metric == "cosine":
            similarity = test[rows] @ train.T
        else:
            similarity = -torch.cdist(test[rows], train, compute_mode="donot_use_mm_for_euclid_dist")
        if skip_self:
            similarity[torch.arange(len(rows), device=rows.device), rows] = -torch.inf
        best = similarity.topk(k, dim=1)
        yield rows, (best.values, best.indices)
