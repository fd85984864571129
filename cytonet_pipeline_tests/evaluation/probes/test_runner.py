"""All protocols on one encoder, and the table of all encoders."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from cytonet_pipeline.evaluation.metrics.area_distances import distance_summary
from cytonet_pipeline.evaluation.metrics.obliquity import scores_by_obliquity
from cytonet_pipeline.evaluation.probes import runner
from cytonet_pipeline.evaluation.probes.heads import LinearHead
from cytonet_pipeline.evaluation.probes.metric_rows import Identity
from cytonet_pipeline.evaluation.probes.probe_data import probe_data
from cytonet_pipeline.evaluation.probes.protocols import Protocol, protocols_of
from cytonet_pipeline.evaluation.table.metrics_table import metrics_table, results_in
from cytonet_pipeline.evaluation.table.table_text import comparison_rows
from cytonet_pipeline.scores import SCORES
from cytonet_pipeline.settings import EvaluationBlock
from cytonet_pipeline.store import read_record, read_table
from cytonet_pipeline_tests.evaluation.conftest import DISTANCES_MM, ENCODER, VERSION, add_encoder


def bench_of(made, data):
    who = Identity("Made up", ENCODER, VERSION, "cytonet", "small", 0, "B20", 0)
    block = made.settings.experiments.evaluation
    return runner.Bench(who, data, block, 1.0, {}, made.store.encoder(ENCODER, VERSION), DISTANCES_MM)


def test_every_protocol_has_both_splits_and_every_draw(probed):
    found = probed.metrics.groupby(["protocol", "labels_per_area", "split"]).size()

    for split in ("seen_brains", "unseen_brain"):
        assert found["linear_E30", 0, split] == found["logistic", 0, split] == found["knn", 0, split] == 1
        assert found["logistic", 5, split] == found["logistic", 20, split] == 2
    assert found.sum() == 2 * 7


def test_metrics_are_those_of_the_predictions_that_are_kept(probed):
    predictions = read_table(probed.folder / "logistic/predictions.parquet", "predictions")
    unseen = predictions[predictions["split"] == "unseen_brain"]

    row = probed.metrics.query("protocol == 'logistic' and labels_per_area == 0 and split == 'unseen_brain'").iloc[0]
    assert row["n_patches"] == len(unseen)
    assert row["macro_f1"] == pytest.approx(f1_score(unseen["area"], unseen["predicted_area"], average="macro"))
    assert 0.5 < row["macro_f1"] < 1
    assert all(row[f"{score}_low"] <= row[score] <= row[f"{score}_high"] for score in SCORES)


def test_the_kept_probe_gives_the_kept_predictions(probed):
    data = probe_data(probed.store, ENCODER, VERSION, probed.settings.experiments.evaluation)
    head = LinearHead.read(probed.folder / "linear_E30/probe.safetensors")
    predictions = read_table(probed.folder / "linear_E30/predictions.parquet", "predictions")

    again = pd.Series(head.classes[head.probabilities(data.features).argmax(axis=1)], index=data.rows["patch_id"])
    assert (again[predictions["patch_id"]].to_numpy() == predictions["predicted_area"]).all()


def test_more_labels_do_not_hurt(probed):
    few = probed.metrics.query("protocol == 'logistic'").groupby("labels_per_area")["macro_f1"].mean()

    assert few[5] < few[20] < few[0]


def test_an_area_that_only_the_unseen_brain_has_is_left_out_and_counted(probed):
    record = read_record(probed.folder / "knn/probe.json")

    index = probed.indices["B20"]
    assert record["splits"]["unseen_brain"]["left_out"] == {"only in B20": int((index["annotated_area"] == 8).sum())}
    assert record["splits"]["seen_brains"]["left_out"] == {}
    predictions = read_table(probed.folder / "knn/predictions.parquet", "predictions")
    assert set(predictions["area"]) == {1, 2, 3, 7}


@pytest.mark.parametrize("protocol", protocols_of("cytonet", EvaluationBlock(epochs=(30,), labels_per_area=(5,))))
def test_poisoned_test_labels_change_no_probe(made, protocol):
    """No label of a test section may decide on anything: neither weights, nor rates, nor which areas there are."""
    data = probe_data(made.store, ENCODER, VERSION, made.settings.experiments.evaluation)
    test = data.rows["role"].isin(["seen_brains", "unseen_brain"])
    random = np.random.default_rng(0)
    wrong = data.rows["annotated_area"].where(~test, random.integers(1, 9, len(data.rows))).astype("int32")
    features = np.where(test.to_numpy()[:, None], np.float16(1000), data.features)
    poisoned = replace(data, rows=data.rows.assign(annotated_area=wrong), features=features)

    honest_head, honest_record = runner.fit_head(protocol, 0, bench_of(made, data))
    poisoned_head, poisoned_record = runner.fit_head(protocol, 0, bench_of(made, poisoned))

    assert honest_record == poisoned_record
    asked = data.features[:200]
    assert np.array_equal(honest_head.probabilities(asked), poisoned_head.probabilities(asked))


def test_validation_labels_do_decide(made):
    """The counterpart: the test above would also pass if nothing were chosen at all."""
    data = probe_data(made.store, ENCODER, VERSION, made.settings.experiments.evaluation)
    areas = data.rows["annotated_area"].to_numpy().copy()
    areas[data.choose] = np.roll(areas[data.choose], 1)
    poisoned = replace(data, rows=data.rows.assign(annotated_area=areas))
    protocol = Protocol("linear_E30", epochs=30)

    _, honest = runner.fit_head(protocol, 0, bench_of(made, data))
    _, misled = runner.fit_head(protocol, 0, bench_of(made, poisoned))

    assert max(misled["macro_f1_by_rate"].values()) < max(honest["macro_f1_by_rate"].values()) - 0.2


def test_probes_that_are_current_are_not_run_again(probed, monkeypatch):
    monkeypatch.setattr(runner, "fit_head", lambda *_: pytest.fail("fitted again"))

    again = runner.run_probes(ENCODER, probed.settings, probed.store)

    pd.testing.assert_frame_equal(again, probed.metrics)


def test_a_killed_run_goes_on_with_the_next_protocol(made, monkeypatch):
    monkeypatch.setattr(runner, "medoid_distances_mm", lambda folder, store: DISTANCES_MM)
    fit, fitted = runner.fit_head, []

    def killed_at_knn(protocol, draw, bench):
        fitted.append(protocol.name)
        if protocol.name == "knn" and fitted.count("knn") == 1:
            raise KeyboardInterrupt
        return fit(protocol, draw, bench)

    monkeypatch.setattr(runner, "fit_head", killed_at_knn)
    with pytest.raises(KeyboardInterrupt):
        runner.run_probes(ENCODER, made.settings, made.store)
    assert not (made.store.linear_probes(ENCODER, VERSION) / "knn").exists()
    runner.run_probes(ENCODER, made.settings, made.store)

    assert fitted.count("linear_E30") == 1
    assert fitted.count("knn") == 2


def test_a_confusion_of_neighbours_is_nearer_than_one_of_lobes():
    rows = pd.DataFrame({"split": "seen_brains", "area": [1, 1, 1, 2], "predicted_area": [1, 2, 3, 7]})

    found = distance_summary(rows, DISTANCES_MM)["seen_brains"]

    assert found["mean_mm"] == pytest.approx((0 + 10 + 20) / 3)
    assert found["mean_of_errors_mm"] == pytest.approx(15)
    assert found["n_left_out"] == 1


def test_thirds_of_obliquity_hold_every_patch_once():
    random = np.random.default_rng(0)
    angles = np.where(random.random(900) < 0.1, np.nan, random.uniform(0, 90, 900))
    area = random.integers(1, 5, 900)
    right = pd.DataFrame({"split": "seen_brains", "area": area, "in_top": True, "obliquity_deg": angles})
    right["predicted_area"] = np.where(angles > 60, area % 4 + 1, area)

    table = scores_by_obliquity(right)

    assert table["n_patches"].sum() == np.isfinite(angles).sum()
    assert table["n_patches"].max() - table["n_patches"].min() <= 1
    assert table["accuracy"].tolist()[:2] == [1.0, 1.0]
    assert table["accuracy"].iloc[2] < 0.1


def test_position_is_read_by_neighbours_alone_also_with_few_labels():
    assert [p.folder for p in protocols_of("position", EvaluationBlock())] == ["knn", "knn_n10", "knn_n100"]
    assert "end_to_end" in {p.name for p in protocols_of("scratch", EvaluationBlock())}


def test_the_table_is_made_while_an_encoder_is_missing_and_says_so(probed):
    metrics = metrics_table(probed.settings, probed.store)

    text = (probed.store.metrics() / "metrics.md").read_text()
    assert "Not in here yet: not_yet." in text
    assert text.startswith("Data: Made up.")
    assert len(metrics) == len(probed.metrics)
    assert {p.name for p in probed.store.metrics().iterdir()} == {
        "metrics.parquet", "metrics.csv", "metrics.md", "metrics.tex", "comparisons.csv", "inputs.json",
    }  # fmt: skip


def test_the_table_is_made_of_nothing_before_the_first_probe(made):
    assert len(metrics_table(made.settings, made.store)) == 0
    assert results_in(made.settings, made.store).missing == (ENCODER, "not_yet")


def test_synthetic_data_are_called_so_before_the_first_number(probed):
    description = probed.settings.data / "dataset_description.json"
    description.write_text(json.dumps({"Name": "Made up", "Synthetic": True}))

    metrics_table(probed.settings, probed.store)

    for name in ("metrics.md", "metrics.tex"):
        first = (probed.store.metrics() / name).read_text().splitlines()[0]
        assert "test the plumbing, not the merit" in first


def test_two_encoders_are_compared_on_the_same_patches(probed):
    add_encoder(probed.store, "not_yet", probed.indices, spread=3.0)
    runner.run_probes("not_yet", probed.settings, probed.store)

    metrics_table(probed.settings, probed.store)

    compared = pd.read_csv(probed.store.metrics() / "comparisons.csv")
    row = compared.query("protocol == 'logistic' and split == 'unseen_brain'").iloc[0]
    assert (row["encoder_a"], row["encoder_b"]) == (ENCODER, "not_yet")
    assert row["difference_low"] > 0
    assert row["n_blocks"] >= 10


def test_distances_and_obliquity_stand_in_the_page(probed):
    metrics_table(probed.settings, probed.store)

    page = (probed.store.metrics() / "metrics.md").read_text()
    errors = page.split("## Errors")[1].split("## ")[0]
    assert errors.count("made_up") == 2 * 3
    assert "–" not in errors.split("|---")[1]


def test_a_comparison_without_interval_is_still_shown():
    """Two brains with few sections: the commonest case of a first try."""
    row = {"protocol": "knn", "split": "unseen_brain", "encoder_a": "a", "encoder_b": "b", "n_blocks": 4}
    row |= {"difference": 0.25, "difference_low": np.nan, "difference_high": np.nan, "p_holm": np.nan}

    shown = comparison_rows(pd.DataFrame([row])).iloc[0]

    assert shown["macro F1 A − B"] == "+0.250"
    assert shown["p (Holm)"] == "–"


def test_the_latex_table_is_a_tabular_with_as_many_cells_as_columns(probed):
    metrics_table(probed.settings, probed.store)

    lines = (probed.store.metrics() / "metrics.tex").read_text().splitlines()
    columns = lines[1].count("l") - "tabular".count("l")
    rows = [line for line in lines if line.endswith(r"\\")]
    assert len(rows) == 1 + 3
    assert "held_out B20" in lines[0]
    assert {row.count(" & ") for row in rows} == {columns - 1}
    assert not any("_" in row.replace(r"\_", "") for row in rows)
