"""Linear probe and logistic regression, against scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.evaluation.probes.heads import LinearHead, Scaling
from cytonet_pipeline.evaluation.probes.linear import Labelled, Schedule, fit_linear
from cytonet_pipeline.evaluation.probes.logistic import fit_logistic

RATES = (0.01, 0.03, 0.1, 0.3, 1.0)


def blobs(n, seed, *, spread=1.0, width=16, n_classes=5):
    """Gaussian classes with features of very different scale, as float16; area numbers have gaps."""
    centres = np.random.default_rng(0).normal(size=(n_classes, width)) * 2
    random = np.random.default_rng(seed)
    target = random.integers(0, n_classes, n)
    features = (centres[target] + spread * random.normal(size=(n, width))) * np.geomspace(0.01, 100, width) + 3
    return Labelled(features.astype(np.float16), np.array([2, 3, 7, 11, 1000])[target])


def accuracy(head, data):
    return np.mean(head.classes[head.probabilities(data.features).argmax(axis=1)] == data.areas)


def scikit_learn_accuracy(train, test):
    scaler = StandardScaler().fit(train.features.astype(np.float64))
    model = LogisticRegression(max_iter=2000).fit(scaler.transform(train.features), train.areas)
    return model.score(scaler.transform(test.features), test.areas)


def test_the_linear_probe_is_as_good_as_scikit_learns_regression():
    train, choose, test = blobs(3000, 1, spread=1.6), blobs(500, 2, spread=1.6), blobs(2000, 3, spread=1.6)

    head, record = fit_linear(train, choose, Schedule(30, RATES, 256))

    assert accuracy(head, test) == pytest.approx(scikit_learn_accuracy(train, test), abs=0.015)
    assert 0.6 < accuracy(head, test) < 0.999
    assert set(record["macro_f1_by_rate"]) == {f"{rate:g}" for rate in RATES}


def test_logistic_is_scikit_learns_regression():
    train, choose, test = blobs(800, 1, spread=1.6), blobs(300, 2, spread=1.6), blobs(500, 3, spread=1.6)
    scaler = StandardScaler().fit(train.features.astype(np.float64))
    model = LogisticRegression(C=0.1, max_iter=5000, tol=1e-6).fit(scaler.transform(train.features), train.areas)

    head, record = fit_logistic(train, choose, [0.1])

    expected = model.predict_proba(scaler.transform(test.features))
    assert head.probabilities(test.features) == pytest.approx(expected, abs=0.02)
    assert record["c"] == 0.1


def test_two_areas_are_a_softmax_too():
    """scikit-learn keeps one row of weights for two classes; our heads keep one per class."""
    train, test = blobs(400, 1, n_classes=2), blobs(200, 2, n_classes=2)

    head, _ = fit_logistic(train, test, [1.0])

    assert head.weight.shape == (2, 16)
    assert accuracy(head, test) == pytest.approx(scikit_learn_accuracy(train, test), abs=0.01)


def test_folded_weights_give_what_the_unfolded_give():
    random = np.random.default_rng(0)
    features = blobs(300, 1).features
    scaling = Scaling.of(features)
    weight, bias = random.normal(size=(5, 16)), random.normal(size=5)

    head = LinearHead.folded(weight, bias, np.arange(1, 6), scaling)

    expected = scaling.apply(features) @ weight.T + bias
    assert features.astype(np.float32) @ head.weight.T + head.bias == pytest.approx(expected, abs=2e-3)


def test_scaling_is_scikit_learns_and_leaves_constant_features_alone():
    features = np.hstack([blobs(500, 1).features, np.full((500, 1), 0.1, np.float16)])

    scaling = Scaling.of(features)

    scaler = StandardScaler().fit(features[:, :-1].astype(np.float64))
    assert scaling.mean[:-1] == pytest.approx(scaler.mean_)
    assert scaling.deviation[:-1] == pytest.approx(scaler.scale_)
    assert scaling.deviation[-1] == 1.0


def test_each_head_of_a_pass_is_what_it_would_be_alone():
    """All candidate rates share one pass over the data; they must not affect each other."""
    train, choose = blobs(600, 1, spread=2), blobs(200, 2, spread=2)
    _, together = fit_linear(train, choose, Schedule(5, RATES, 128))

    for rate in RATES:
        _, alone = fit_linear(train, choose, Schedule(5, [rate], 128))
        assert alone["macro_f1_by_rate"][f"{rate:g}"] == together["macro_f1_by_rate"][f"{rate:g}"]


def test_the_same_seed_gives_the_same_probe():
    train, choose = blobs(500, 1), blobs(100, 2)

    first, second = (fit_linear(train, choose, Schedule(3, RATES, 64, seed=5))[0] for _ in range(2))

    assert np.array_equal(first.weight, second.weight)


def test_a_rate_that_diverges_is_not_chosen():
    train, choose = blobs(500, 1), blobs(100, 2)

    _, record = fit_linear(train, choose, Schedule(5, (0.1, 1e30), 64))

    assert record["learning_rate"] == 0.1


def test_fewer_rows_than_a_batch_are_one_batch():
    train, choose = blobs(40, 1), blobs(100, 2)

    head, _ = fit_linear(train, choose, Schedule(100, RATES, 1024))

    assert accuracy(head, choose) > 0.9


def test_a_head_comes_back_from_disk_as_it_was(tmp_path):
    head, _ = fit_logistic(blobs(200, 1), blobs(50, 2), [1.0])
    head.write(tmp_path / "probe.safetensors", {"c": 1.0})

    read = LinearHead.read(tmp_path / "probe.safetensors")

    assert read.classes.tolist() == [2, 3, 7, 11, 1000]
    assert np.array_equal(read.weight, head.weight)
    assert np.array_equal(read.bias, head.bias)


def test_a_damaged_head_is_refused_by_name(tmp_path):
    (tmp_path / "probe.safetensors").write_bytes(b"not a head")

    with pytest.raises(StoreError, match=r"probe\.safetensors"):
        LinearHead.read(tmp_path / "probe.safetensors")
