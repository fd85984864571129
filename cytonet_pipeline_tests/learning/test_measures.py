"""Measures of features, against scikit-learn and cases with a known answer."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from cytonet_pipeline.learning.measures import (
    effective_rank,
    knn_predict,
    knn_probabilities,
    mean_cosine,
    same_brain_excess,
    uniformity,
)
from cytonet_pipeline.learning.training.validation_monitor import collapse_problems


def blobs(n=300, classes=4, dim=16, spread=1.5, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    features = rng.normal(size=(classes, dim))[labels] * 2 + rng.normal(size=(n, dim)) * spread
    return torch.from_numpy(features.astype(np.float32)), torch.from_numpy(labels + 5)


def test_the_effective_rank_counts_dimensions():
    rng = torch.Generator().manual_seed(0)
    even = torch.randn(4000, 10, generator=rng)
    line = torch.randn(4000, 1, generator=rng) @ torch.randn(1, 10, generator=rng)

    assert effective_rank(even) == pytest.approx(10, abs=0.1)
    assert effective_rank(line) == pytest.approx(1, abs=1e-3)
    assert effective_rank(line + 100) == pytest.approx(1, abs=1e-3)
    assert effective_rank(torch.ones(50, 10)) == 0


def test_the_mean_cosine_is_that_of_scikit_learn():
    features, _ = blobs()
    cosines = cosine_similarity(features.numpy())

    assert mean_cosine(features) == pytest.approx(cosines[~np.eye(len(features), dtype=bool)].mean(), abs=1e-6)


def test_uniformity_is_lowest_where_features_spread():
    spread, _ = blobs(spread=10.0)
    units = torch.nn.functional.normalize(spread, dim=1)
    off = ~torch.eye(len(units), dtype=torch.bool)
    expected = math.log(float(torch.exp(-2 * torch.cdist(units, units)[off] ** 2).mean()))

    assert uniformity(spread) == pytest.approx(expected, rel=1e-3)
    assert uniformity(spread) < uniformity(torch.ones_like(spread) + 0.01 * spread)


def test_neighbours_vote_as_in_scikit_learn():
    train, labels = blobs(seed=0)
    test, _ = blobs(seed=1)
    theirs = KNeighborsClassifier(20, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07)).fit(train, labels)

    classes, shares = knn_probabilities(train, labels, test, 20, 0.07)

    assert classes.tolist() == theirs.classes_.tolist()
    np.testing.assert_allclose(shares.numpy(), theirs.predict_proba(test), atol=1e-4)
    assert (knn_predict(train, labels, test, 20, 0.07).numpy() == theirs.predict(test)).all()


def test_positions_have_their_neighbours_in_millimetres():
    """The angle between two positions says nothing."""
    train, labels = blobs(dim=3, seed=0)
    test, _ = blobs(dim=3, seed=1)
    theirs = KNeighborsClassifier(20, weights=lambda d: np.exp(-d / 2.0)).fit(train, labels)

    _, shares = knn_probabilities(train, labels, test, 20, 2.0, metric="euclidean")

    np.testing.assert_allclose(shares.numpy(), theirs.predict_proba(test), atol=1e-4)


def test_the_same_brain_excess_is_one_where_brains_mix_and_their_number_where_they_part():
    rng = torch.Generator().manual_seed(0)
    features, brains = torch.randn(2500, 8, generator=rng), torch.arange(2500) % 4

    assert same_brain_excess(features, brains, 20) == pytest.approx(1, abs=0.03)
    apart = features + 100 * torch.nn.functional.one_hot(brains, 8)
    assert same_brain_excess(apart, brains, 20) == pytest.approx(4, abs=0.01)
    assert math.isnan(same_brain_excess(features, torch.zeros(2500), 20))


def test_the_same_brain_excess_counts_the_neighbours_of_scikit_learn():
    features, labels = blobs()
    near = NearestNeighbors(n_neighbors=11, metric="cosine").fit(features).kneighbors(features, return_distance=False)
    share = (labels.numpy()[near[:, 1:]] == labels.numpy()[:, None]).mean()
    counts = np.bincount(labels.numpy())
    chance = (counts * (counts - 1)).sum() / (300 * 299)

    assert same_brain_excess(features, labels, 10) == pytest.approx(share / chance, rel=1e-5)


def test_a_collapse_shows_in_rank_or_cosine():
    assert collapse_problems({"effective_rank": 40.0, "mean_cosine": 0.8}) == []
    assert "rank is 3.0" in collapse_problems({"effective_rank": 3.0, "mean_cosine": 0.8})[0]
    assert "cosine is 0.970" in collapse_problems({"effective_rank": 40.0, "mean_cosine": 0.97})[0]
