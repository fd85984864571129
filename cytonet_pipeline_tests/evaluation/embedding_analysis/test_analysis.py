"""Whether features separate brains, and whether they change abruptly at the central sulcus."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import silhouette_score

from cytonet_pipeline.evaluation.embedding_analysis.brain_separation import brain_separation, without_brain_means
from cytonet_pipeline.evaluation.embedding_analysis.central_sulcus import central_sulcus_step
from cytonet_pipeline.evaluation.embedding_analysis.projection import analyse_embedding

NAMES = pd.DataFrame(
    {
        "index": [48, 49, 51, 52, 1, 2],
        "name": [
            "Area 4p (PreCG)",
            "Area 4a (PreCG)",
            "Area 3a (PostCG)",
            "Area 3b (PostCG)",
            "Area 7A (SPL)",
            "PF (IPL)",
        ],
        "color": "#000000",
    }
)


@pytest.fixture
def strip():
    """A strip of cortex 60 mm long: motor, sensory, two parietal gyri, one after the other."""
    random = np.random.default_rng(0)
    y_mm = random.uniform(0, 60, 900)
    rows = pd.DataFrame({"brain": random.choice(["B01", "B02"], 900), "hemisphere": "L"})
    rows["ref_x_mm"], rows["ref_z_mm"] = random.uniform(0, 5, 900), random.uniform(0, 5, 900)
    rows["ref_y_mm"] = y_mm
    rows["annotated_area"] = np.array([49, 51, 1, 2])[(y_mm // 15).astype(int)]
    return rows


def smooth_features(rows):
    """Features that turn evenly along the strip: distance explains everything."""
    angle = rows["ref_y_mm"].to_numpy() / 40
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def test_features_that_follow_distance_alone_show_no_step(strip):
    measured = central_sulcus_step(smooth_features(strip), strip, NAMES)

    assert measured["available"]
    assert measured["step_over_other_sulci"] == pytest.approx(1, abs=0.1)
    assert measured["step_over_within"] == pytest.approx(1, abs=0.15)


def test_features_that_jump_at_the_sulcus_show_a_step(strip):
    motor = (strip["annotated_area"] == 49).to_numpy()
    features = np.concatenate([smooth_features(strip), np.where(motor, 1.0, 0.0)[:, None]], axis=1)

    measured = central_sulcus_step(features, strip, NAMES)

    assert measured["step_over_within"] > 2
    assert measured["step_over_other_sulci"] > 2


def test_without_the_areas_the_reason_is_given(strip):
    measured = central_sulcus_step(smooth_features(strip), strip, NAMES[NAMES["index"] < 10])

    assert measured == {"available": False, "reason": "the annotations name no areas 4a/4p and 3a/3b"}


def test_brains_with_an_offset_separate_until_it_is_removed():
    random = np.random.default_rng(0)
    brains = np.repeat(["B01", "B02", "B20"], 100)
    areas = np.tile([1, 2, 3, 0], 75)
    offset = 4 * np.eye(3)[np.repeat([0, 1, 2], 100)]
    features = np.concatenate(
        [random.normal(size=(300, 4)) + 3 * np.eye(4)[areas], random.normal(size=(300, 3)) + offset], 1
    )

    measured = brain_separation(features, brains, areas, k=10, seed=0)

    assert measured["same_brain_excess"] > 1.8
    assert measured["same_brain_excess_centred"] == pytest.approx(1, abs=0.15)
    assert measured["silhouette_by_brain"] > 0.1 > abs(measured["silhouette_by_brain_centred"])


def test_silhouettes_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    features = random.normal(size=(120, 4))
    areas = random.choice([0, 1, 2], 120)
    brains = random.choice(["a", "b"], 120)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)

    measured = brain_separation(features, brains, areas, k=5, seed=0)

    assert measured["silhouette_by_brain"] == pytest.approx(silhouette_score(unit, brains), abs=1e-4)
    assert measured["silhouette_by_area"] == pytest.approx(
        silhouette_score(unit[areas > 0], areas[areas > 0]), abs=1e-4
    )


def test_one_brain_alone_cannot_separate():
    measured = brain_separation(
        np.random.default_rng(0).normal(size=(30, 3)), np.full(30, "B01"), np.zeros(30), k=5, seed=0
    )

    assert measured["same_brain_excess"] is None
    assert measured["silhouette_by_area"] is None


def test_every_brain_mean_is_zero_after_removal():
    brains = np.array(["a", "b"] * 10)
    left = without_brain_means(np.random.default_rng(0).normal(size=(20, 3)), brains)

    np.testing.assert_allclose(left[brains == "a"].mean(axis=0), 0, atol=1e-12)


def test_the_analysis_fits_into_json(strip):
    """NaN is no JSON: what cannot be measured is null with a reason."""
    measured = analyse_embedding(smooth_features(strip).astype(np.float32), strip, NAMES[:0])

    assert json.loads(json.dumps(measured, allow_nan=False))["central_sulcus"]["available"] is False
    assert 1 < measured["effective_rank"] <= 2  # a curve in the plane
