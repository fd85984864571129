"""Distances between true and predicted areas."""

import pandas as pd
import pytest

from cytonet_pipeline.evaluation.metrics.area_distances import distance_summary
from cytonet_pipeline_tests.evaluation.conftest import DISTANCES_MM


def test_a_confusion_of_neighbours_is_nearer_than_one_of_lobes():
    rows = pd.DataFrame({"split": "seen_brains", "area": [1, 1, 1, 2], "predicted_area": [1, 2, 3, 7]})

    summary = distance_summary(rows, DISTANCES_MM)["seen_brains"]

    assert summary["mean_mm"] == pytest.approx((0 + 10 + 20) / 3)
    assert summary["mean_of_errors_mm"] == pytest.approx(15)
    assert summary["n_left_out"] == 1
