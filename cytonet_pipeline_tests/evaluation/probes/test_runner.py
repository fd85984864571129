"""All protocols on one encoder."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import f1_score

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.evaluation.probes import runner
from cytonet_pipeline.evaluation.probes.heads import LinearHead
from cytonet_pipeline.evaluation.probes.metric_rows import Identity
from cytonet_pipeline.evaluation.probes.probe_data import probe_data
from cytonet_pipeline.evaluation.probes.protocols import protocols_of
from cytonet_pipeline.scores import SCORES
from cytonet_pipeline.settings import EvaluationBlock
from cytonet_pipeline.stages import LINEAR_PROBE
from cytonet_pipeline.store import read_record, read_table, table, write_table
from cytonet_pipeline_tests.evaluation.conftest import DISTANCES_MM, ENCODER, VERSION


def context_of(made, data):
    identity = Identity("Made up", ENCODER, VERSION, "cytonet", "small", 0, "B20", 0)
    block = made.settings.experiments.evaluation
    folder = made.store.encoder(ENCODER, VERSION)
    return runner.ProbeContext(identity, "cytonet", data, block, 1.0, {}, folder, DISTANCES_MM)


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


def test_predictions_of_every_draw_are_kept_and_give_its_scores(probed):
    for labels in (5, 20):
        drawn = read_table(probed.folder / f"logistic_n{labels}/drawn_predictions.parquet", "drawn_predictions")
        assert not drawn.duplicated(["patch_id", "draw"]).any()
        rows = probed.metrics[probed.metrics["labels_per_area"] == labels].set_index(["draw", "split"])
        scored = drawn.groupby(["draw", "split"])[["area", "predicted_area"]]
        for key, of_row in scored:
            assert rows.loc[key, "n_patches"] == len(of_row)
            expected = f1_score(
                of_row["area"], of_row["predicted_area"], average="macro", labels=of_row["area"].unique()
            )
            assert rows.loc[key, "macro_f1"] == pytest.approx(expected)
        assert set(scored.groups) == set(rows.index)


def test_the_kept_probe_gives_the_kept_predictions(probed):
    data = probe_data(probed.store, ENCODER, VERSION, probed.settings)
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
    data = probe_data(made.store, ENCODER, VERSION, made.settings)
    test = data.rows["role"].isin(["seen_brains", "unseen_brain"])
    random = np.random.default_rng(0)
    wrong = data.rows["annotated_area"].where(~test, random.integers(1, 9, len(data.rows))).astype("int32")
    features = np.where(test.to_numpy()[:, None], np.float16(1000), data.features)
    poisoned = replace(data, rows=data.rows.assign(annotated_area=wrong), features=features)

    honest_head, honest_record = runner.fit_head(protocol, 0, context_of(made, data))
    poisoned_head, poisoned_record = runner.fit_head(protocol, 0, context_of(made, poisoned))

    assert honest_record == poisoned_record
    some = data.features[:200]
    assert np.array_equal(honest_head.probabilities(some), poisoned_head.probabilities(some))


def test_validation_labels_do_decide(made):
    """The counterpart: the test above would also pass if nothing were chosen at all."""
    data = probe_data(made.store, ENCODER, VERSION, made.settings)
    areas = data.rows["annotated_area"].to_numpy().copy()
    areas[data.validation] = np.roll(areas[data.validation], 1)
    poisoned = replace(data, rows=data.rows.assign(annotated_area=areas))
    protocol = protocols_of("cytonet", EvaluationBlock(epochs=(30,)))[0]

    _, honest = runner.fit_head(protocol, 0, context_of(made, data))
    _, misled = runner.fit_head(protocol, 0, context_of(made, poisoned))

    assert max(misled["macro_f1_by_rate"].values()) < max(honest["macro_f1_by_rate"].values()) - 0.2


def test_probes_that_are_current_are_not_run_again(probed, monkeypatch):
    monkeypatch.setattr(runner, "fit_head", lambda *_: pytest.fail("fitted again"))

    LINEAR_PROBE.run(probed.settings, ENCODER)

    pd.testing.assert_frame_equal(read_table(probed.folder / "metrics.parquet", "metrics"), probed.metrics)


def test_a_killed_run_continues_with_the_next_protocol(made, monkeypatch):
    monkeypatch.setattr(runner, "medoid_distances_mm", lambda folder, store: DISTANCES_MM)
    fit, fitted = runner.fit_head, []

    def killed_at_knn(protocol, draw, context):
        fitted.append(protocol.name)
        if protocol.name == "knn" and fitted.count("knn") == 1:
            raise KeyboardInterrupt
        return fit(protocol, draw, context)

    monkeypatch.setattr(runner, "fit_head", killed_at_knn)
    with pytest.raises(KeyboardInterrupt):
        LINEAR_PROBE.run(made.settings, ENCODER)
    assert not (made.store.linear_probes(ENCODER, VERSION) / "knn").exists()
    LINEAR_PROBE.run(made.settings, ENCODER)

    assert fitted.count("linear_E30") == 1
    assert fitted.count("knn") == 2


def test_positions_are_classified_by_neighbours_alone_also_with_few_labels():
    assert [p.folder for p in protocols_of("position", EvaluationBlock())] == ["knn", "knn_n10", "knn_n100"]
    assert "end_to_end" in {p.name for p in protocols_of("scratch", EvaluationBlock())}


def test_an_encoder_of_few_labels_is_probed_with_those_it_was_trained_on(made, monkeypatch):
    monkeypatch.setattr(runner, "medoid_distances_mm", lambda folder, store: DISTANCES_MM)
    data = probe_data(made.store, ENCODER, VERSION, made.settings)
    drawn = data.rows.iloc[runner.drawn_rows(data, 5, 1)].assign(role="train", x_px=0, y_px=0)
    content = yaml.safe_load(made.settings.experiments_file.read_text())
    content["encoders"][ENCODER] |= {"method": "supcon", "labels_per_area": 5, "labels_draw": 1}
    made.settings.experiments_file.write_text(yaml.safe_dump(content))
    settings = type(made.settings)(**made.settings.model_dump())
    columns = [column.name for column in table("training_patches").columns]
    path = made.store.encoder(ENCODER, VERSION) / "patches.parquet"
    write_table(path, drawn[columns], "training_patches")

    LINEAR_PROBE.run(settings, ENCODER)

    metrics = read_table(made.store.linear_probes(ENCODER, VERSION) / "metrics.parquet", "metrics")
    assert set(metrics["protocol"]) == {"logistic"}
    assert set(metrics["labels_per_area"]) == {5}
    assert set(metrics["draw"]) == {1}
    write_table(path, drawn[columns].iloc[1:], "training_patches")
    with pytest.raises(StoreError, match="was trained on other patches than draw 1 of 5 labels per area"):
        LINEAR_PROBE.run(settings, ENCODER, recompute=True)
