"""Scores at borders, and errors of position that are corrected."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cytonet_pipeline.evaluation.metrics.scoring import macro_f1
from cytonet_pipeline.evaluation.table import border_scores
from cytonet_pipeline.evaluation.table.border_scores import border_columns, border_distances, with_border_columns
from cytonet_pipeline.evaluation.table.entry import Resampling
from cytonet_pipeline_tests.evaluation.table.test_comparisons import entry, guessed


@pytest.fixture
def near(predictions):
    """Predictions with a distance from the nearest border."""
    return predictions.assign(border_mm=np.random.default_rng(5).uniform(0, 9, len(predictions)))


def columns_of(entries, gap_mm=1.0):
    """The columns that are added to a table with a row per entry."""
    keys = ["encoder", "protocol", "labels_per_area", "draw"]
    metrics = pd.DataFrame([dict(zip(keys, e.key, strict=True)) for e in entries]).assign(split="seen_brains")
    columns, remarks = border_columns(entries, Resampling(gap_mm, 50, 0))
    table = with_border_columns(metrics, columns)
    return table.set_index(["encoder", "protocol"]), remarks


def test_f1_at_borders_is_that_of_the_patches_within_three_mm(near):
    table, _ = columns_of([entry(near)])

    of_borders = near[near["border_mm"] <= 3]
    row = table.loc[("a", "knn")]
    assert row["n_border_patches"] == len(of_borders)
    assert row["border_macro_f1"] == pytest.approx(macro_f1(of_borders["area"], of_borders["predicted_area"]))
    assert row["border_macro_f1_low"] < row["border_macro_f1"] < row["border_macro_f1_high"]


def test_the_share_of_errors_corrected_is_counted_on_the_patches_that_both_were_scored_on(near):
    position = guessed(near, 1).iloc[200:].assign(patch_id=lambda rows: rows["patch_id"])
    by_id = position.set_index("patch_id")["predicted_area"].to_dict()
    wrong = [r for r in near.itertuples() if r.patch_id in by_id and by_id[r.patch_id] != r.area]
    right = [r for r in wrong if r.predicted_area == r.area]

    table, remarks = columns_of([entry(near), entry(position, "p", method="position"), entry(near, "a", "linear_E30")])

    for protocol in ("knn", "linear_E30"):
        row = table.loc[("a", protocol)]
        assert row["n_position_errors"] == len(wrong)
        assert row["position_errors_corrected"] == pytest.approx(len(right) / len(wrong))
        assert row["position_errors_corrected_low"] < row["position_errors_corrected"]
    assert table.loc[("p", "knn"), "position_errors_corrected"] == 0
    assert remarks == []


def test_fewer_than_ten_blocks_have_values_without_interval(near):
    table, _ = columns_of([entry(near), entry(guessed(near, 1), "p", method="position")], gap_mm=4.0)

    row = table.loc[("a", "knn")]
    assert row[["border_macro_f1", "position_errors_corrected"]].notna().all()
    assert row.filter(regex="_low$|_high$").isna().all()


def test_a_control_that_never_errs_leaves_no_share(near):
    perfect = near.assign(predicted_area=near["area"])

    table, _ = columns_of([entry(near), entry(perfect, "p", method="position")])

    assert table.loc[("a", "knn"), "n_position_errors"] == 0
    assert np.isnan(table.loc[("a", "knn"), "position_errors_corrected"])


@pytest.mark.parametrize(
    ("control", "reason"),
    [({"method": "cytonet"}, "no control of method `position`"), ({"held_out": "B01"}, "no control of method"),
     ({"labels_per_area": 10}, "no control of method"), ({"classes": (1, 2)}, "knows other areas than p (5 and 2)")],
    ids=["none", "other brain", "fewer labels", "other areas"],
)  # fmt: skip
def test_without_a_comparable_control_the_share_is_missing_and_the_reason_is_given(near, control, reason):
    entries = [entry(near), entry(near, "p", **{"method": "position", **control})]

    table, remarks = columns_of(entries)

    assert "position_errors_corrected" not in table or np.isnan(table.loc[("a", "knn"), "position_errors_corrected"])
    assert any("a (knn)" in remark and reason in remark for remark in remarks)
    assert table.loc[("a", "knn"), "border_macro_f1"] > 0


def places(n):
    names = {"brain": "B20", "sample": "1", "hemisphere": "L"}
    at_mm = {name: np.linspace(0, 50, n) for name in ("ref_x_mm", "ref_y_mm", "ref_z_mm")}
    return pd.DataFrame({"patch_id": np.arange(n, dtype=np.uint64), **names, **at_mm})


def test_an_atlas_without_borders_within_reach_is_named(near, monkeypatch):
    far = SimpleNamespace(border_distance_mm=lambda points, sides: np.where(np.arange(len(points)) < 2, np.inf, 8.0))
    monkeypatch.setattr(border_scores.ReferenceSpace, "load", lambda folder: far)

    distances = border_distances(places(5), SimpleNamespace(reference="anywhere"))
    table, _ = columns_of([entry(near.assign(border_mm=8.0))])

    assert "no patch lies within 3 mm of a border" in distances.remark
    assert distances.patches["border_mm"].isna().tolist() == [True, True, False, False, False]
    assert table.loc[("a", "knn"), "n_border_patches"] == 0
    assert np.isnan(table.loc[("a", "knn"), "border_macro_f1"])


def test_an_atlas_that_cannot_be_read_leaves_the_columns_empty(tmp_path, near):
    distances = border_distances(places(3), SimpleNamespace(reference=tmp_path))
    table, _ = columns_of([entry(near.assign(border_mm=np.nan))])

    assert "the atlas cannot be read" in distances.remark
    assert np.isnan(table.loc[("a", "knn"), "n_border_patches"])


def test_rows_of_few_labels_are_held_against_position_with_the_same_draw_and_have_no_interval(near):
    """Their spread is over draws, as of the other scores."""
    few = {"labels_per_area": 10, "draw": 1}
    control = entry(guessed(near, 1), "p", method="position", **few)

    table, remarks = columns_of(
        [entry(near, protocol="logistic", **few), control, entry(near, "b", **{**few, "draw": 2})]
    )

    row = table.loc[("a", "logistic")]
    wrong = control.rows["predicted_area"] != control.rows["area"]
    assert row["n_position_errors"] == wrong.sum()
    assert row[["border_macro_f1", "position_errors_corrected"]].notna().all()
    assert row.filter(regex="_low$|_high$").isna().all()
    assert remarks == [
        "no share of position's errors for rows of 10 labels per area: no control of method `position` beside it"
    ]
