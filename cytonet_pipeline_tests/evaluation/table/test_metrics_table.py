"""The table of results of all encoders, as files and as text."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from cytonet_pipeline.evaluation.table.table_text import comparison_rows
from cytonet_pipeline.stages import LINEAR_PROBE, METRICS_TABLE
from cytonet_pipeline.store import read_table
from cytonet_pipeline_tests.conftest import restamp
from cytonet_pipeline_tests.evaluation.conftest import ENCODER, add_encoder


def test_the_table_is_made_while_an_encoder_is_missing_and_names_it(probed):
    METRICS_TABLE.run(probed.settings, None)

    metrics = read_table(probed.store.metrics() / "metrics.parquet", "metrics")

    text = (probed.store.metrics() / "metrics.md").read_text()
    assert "Encoders without results so far: not_yet." in text
    assert text.startswith("Data: Made up.")
    assert len(metrics) == len(probed.metrics) + 6
    assert metrics["protocol"].str.startswith("retrieval_").tolist() == [False] * len(probed.metrics) + [True] * 6
    assert {p.name for p in probed.store.metrics().iterdir()} == {
        "metrics.parquet", "metrics.csv", "metrics.md", "metrics.tex", "metrics.png", "retrieval.png",
        "comparisons.parquet", "comparisons.csv", "border_distances.parquet", "inputs.json",
    }  # fmt: skip


def test_a_score_that_older_results_lack_is_shown_as_missing(probed):
    """A score is added in one place; encoders that were probed before must not keep the table from being made."""
    path = probed.folder / "metrics.parquet"
    older = pyarrow.parquet.read_table(path)
    columns = [name for name in older.column_names if name.startswith("weighted_f1")]
    pyarrow.parquet.write_table(older.drop_columns(columns), path)
    restamp(probed.folder)

    METRICS_TABLE.run(probed.settings, None)

    assert read_table(probed.store.metrics() / "metrics.parquet", "metrics")["weighted_f1"].isna().all()
    lines = (probed.store.metrics() / "metrics.md").read_text().splitlines()
    header, row = (line.split("|") for line in lines if line.startswith(("| protocol", "| logistic")))
    cells = {name.strip(): cell.strip() for name, cell in zip(header, row, strict=True)}
    assert cells["seen weighted F1"] == "–"
    assert cells["seen accuracy"] != "–"


def test_the_table_is_empty_before_the_first_probe(made):
    METRICS_TABLE.run(made.settings, None)

    assert read_table(made.store.metrics() / "metrics.parquet", "metrics").empty
    assert METRICS_TABLE.inputs(made.settings)["missing"] == [ENCODER, "not_yet"]


def test_synthetic_data_are_named_as_such_before_the_first_number(probed):
    description = probed.settings.data / "dataset_description.json"
    description.write_text(json.dumps({"Name": "Made up", "Synthetic": True}))

    METRICS_TABLE.run(probed.settings, None)

    for name in ("metrics.md", "metrics.tex"):
        first = (probed.store.metrics() / name).read_text().splitlines()[0]
        assert "test the plumbing, not the merit" in first


def test_two_encoders_are_compared_on_the_same_patches(probed):
    add_encoder(probed.store, "not_yet", probed.indices, spread=3.0)
    LINEAR_PROBE.run(probed.settings, "not_yet")

    METRICS_TABLE.run(probed.settings, None)

    compared = pd.read_csv(probed.store.metrics() / "comparisons.csv")
    row = compared.query("measure == 'macro_f1' and protocol == 'logistic' and split == 'unseen_brain'").iloc[0]
    assert (row["encoder_a"], row["encoder_b"]) == (ENCODER, "not_yet")
    assert row["difference_low"] > 0
    assert row["n_blocks"] >= 10
    few = compared[compared["labels_per_area"] > 0]
    assert set(few["labels_per_area"]) == {5, 20}
    assert set(few["draw"]) == {0, 1}
    assert few["p"].notna().all()
    metrics = read_table(probed.store.metrics() / "metrics.parquet", "metrics").query("labels_per_area == 20 and draw")
    values = metrics.set_index(["encoder", "split"])["macro_f1"]
    for row in few.query("labels_per_area == 20 and draw == 1 and measure == 'macro_f1'").to_dict("records"):
        assert row["value_a"] == pytest.approx(values[ENCODER, row["split"]])
        assert row["value_b"] == pytest.approx(values["not_yet", row["split"]])


def test_scores_from_before_predictions_of_draws_were_stored_stay_and_the_page_says_what_is_missing(probed):
    """The probes are not fitted again for it: nothing but the table is made, and by whom it is asked for."""
    stored = sorted(probed.folder.glob("*/drawn_predictions.parquet"))
    for path in stored:
        path.unlink()
        restamp(path.parent)
    restamp(probed.folder)
    before = METRICS_TABLE.inputs(probed.settings)

    METRICS_TABLE.run(probed.settings, None)

    metrics = read_table(probed.store.metrics() / "metrics.parquet", "metrics")
    assert LINEAR_PROBE.is_current(probed.settings, ENCODER)
    assert len(stored) == 2
    assert "few_labels" not in before
    assert metrics["macro_f1"].iloc[: len(probed.metrics)].tolist() == probed.metrics["macro_f1"].tolist()
    text = (probed.store.metrics() / "metrics.md").read_text()
    assert f"no paired tests with few labels per area for {ENCODER}" in text.replace("\\", "")

    shutil.rmtree(probed.folder / "logistic_n5")
    LINEAR_PROBE.run(probed.settings, ENCODER)

    assert not METRICS_TABLE.is_current(probed.settings, None)
    pd.testing.assert_frame_equal(read_table(probed.folder / "metrics.parquet", "metrics"), probed.metrics)
    assert METRICS_TABLE.inputs(probed.settings)["few_labels"][ENCODER].keys() == {"logistic_n5"}


def test_distances_and_obliquity_are_on_the_page(probed):
    METRICS_TABLE.run(probed.settings, None)

    page = (probed.store.metrics() / "metrics.md").read_text()
    errors = page.split("## Errors")[1].split("## ")[0]
    assert errors.count("made_up") == 2 * 3
    assert "–" not in errors.split("|---")[1]


def test_a_comparison_without_interval_is_still_shown():
    """Two brains with few sections: the usual case for a first try."""
    row = {
        "protocol": "knn",
        "split": "unseen_brain",
        "encoder_a": "a",
        "encoder_b": "b",
        "n_blocks": 4,
        "n_patches": 9,
    }
    row |= {
        "measure": "macro_f1",
        "left_out": "",
        "n_family": 0,
        "difference": 0.25,
        "difference_low": np.nan,
        "difference_high": np.nan,
        "p_holm": np.nan,
    }

    shown = comparison_rows(pd.DataFrame([row])).iloc[0]

    assert shown["A − B"] == "+0.250"
    assert shown["p (Holm)"] == "–"


def test_the_latex_table_is_a_tabular_with_as_many_cells_as_columns(probed):
    METRICS_TABLE.run(probed.settings, None)

    lines = (probed.store.metrics() / "metrics.tex").read_text().splitlines()
    columns = lines[1].count("l") - "tabular".count("l")
    rows = [line for line in lines if line.endswith(r"\\")]
    assert len(rows) == 1 + 3
    assert "held_out B20" in lines[0]
    assert {row.count(" & ") for row in rows} == {columns - 1}
    assert not any("_" in row.replace(r"\_", "") for row in rows)
