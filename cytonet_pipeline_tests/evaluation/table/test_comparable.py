"""Which scores may stand side by side: those that are current by the probes' own rule, on the same patches."""

import runpy
import shutil

import pytest
import yaml

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.stages import LINEAR_PROBE, METRICS_TABLE
from cytonet_pipeline.store import Store, read_table, write_stamp, write_table
from cytonet_pipeline_tests.conftest import PROJECT
from cytonet_pipeline_tests.evaluation.conftest import ENCODER, VERSION, add_encoder, settings_in

OTHER = "not_yet"


def score_like_the_first(probed, name, *, settings=None, without_sections=()):
    """Give another encoder the scores of the first, as its probes would leave them."""
    add_encoder(probed.store, name, probed.indices, spread=1.0)
    folder = probed.store.linear_probes(name, VERSION)
    shutil.copytree(probed.folder, folder)
    for path in folder.glob("**/metrics.parquet"):
        write_table(path, read_table(path, "metrics").assign(encoder=name, method="random"), "metrics")
    dropped = {
        patch_id
        for index in probed.indices.values()
        for patch_id in index.loc[index["sample"].isin(without_sections), "patch_id"]
    }
    for path in folder.glob("*/predictions.parquet"):
        rows = read_table(path, "predictions")
        write_table(path, rows[~rows["patch_id"].isin(dropped)], "predictions")
    inputs = LINEAR_PROBE.inputs(settings or probed.settings, name)
    for part in (*(p.parent for p in folder.glob("*/inputs.json")), folder):
        write_stamp(part, inputs)


def changed(settings, change):
    """The settings after an edit of the experiments file."""
    experiments = yaml.safe_load(settings.experiments_file.read_text())
    change(experiments)
    settings.experiments_file.write_text(yaml.safe_dump(experiments))
    return settings_in(settings.experiments_file.parent)


def table_of(settings):
    METRICS_TABLE.run(settings, None)
    folder = Store(settings.store).metrics()
    rows = read_table(folder / "metrics.parquet", "metrics")
    return set(rows["encoder"]), (folder / "metrics.md").read_text(), METRICS_TABLE.summary(settings).reasons


def test_scores_made_with_other_settings_are_left_out_with_what_differs(probed):
    """One encoder was evaluated again after a change, the other not yet."""
    score_like_the_first(probed, OTHER)
    before = METRICS_TABLE.inputs(probed.settings)
    settings = changed(probed.settings, lambda e: e["evaluation"].update(knn_k=7))
    for part in (*(p.parent for p in probed.folder.glob("*/inputs.json")), probed.folder):
        write_stamp(part, LINEAR_PROBE.inputs(settings, ENCODER))

    encoders, page, reasons = table_of(settings)

    assert set(before["probes"]) == {ENCODER, OTHER}
    assert encoders == {ENCODER}
    assert f"encoder {OTHER} is left out: its scores are not current (knn_k was 20, now 7)" in page
    assert f"cytonet run --encoders {OTHER}" in " ".join(reasons)
    assert "Encoders compared" not in page
    assert "knn_k was 20, now 7" in (probed.store.metrics() / "metrics.tex").read_text()


def test_scores_of_a_changed_index_are_left_out(probed):
    score_like_the_first(probed, OTHER)
    inputs = LINEAR_PROBE.inputs(probed.settings, OTHER)
    inputs["embeddings"]["indices"]["B02"] = "0" * 16
    write_stamp(probed.store.linear_probes(OTHER, VERSION), inputs)

    encoders, page, _ = table_of(probed.settings)

    assert encoders == {ENCODER}
    assert "not current (patch index of sub-B02)" in page


def test_an_encoder_that_no_experiments_file_has_is_left_out_by_name(probed):
    score_like_the_first(probed, OTHER)
    settings = changed(probed.settings, lambda e: e["encoders"].update(renamed=e["encoders"].pop(OTHER)))

    encoders, page, _ = table_of(settings)

    assert encoders == {ENCODER}
    assert f"encoder {OTHER} is left out: no experiments file has an encoder of that name" in page
    assert "Encoders without results so far: renamed." in page


@pytest.mark.parametrize(("knn_k", "stays"), [(20, True), (9, False)])
def test_an_encoder_of_another_experiments_file_stays_if_it_is_evaluated_alike(probed, knn_k, stays):
    """Several files may fill one store; what they say of the evaluation must be the same."""
    experiments = yaml.safe_load(probed.settings.experiments_file.read_text())
    experiments["evaluation"]["knn_k"] = knn_k
    experiments["encoders"] = {"elsewhere": experiments["encoders"][OTHER]}
    beside = probed.settings.experiments_file.with_name("beside.yaml")
    beside.write_text(yaml.safe_dump(experiments))
    of_file = probed.settings.model_validate(probed.settings.model_dump() | {"experiments_file": beside})
    score_like_the_first(probed, "elsewhere", settings=of_file)

    encoders, page, _ = table_of(probed.settings)

    assert ("elsewhere" in encoders) is stays
    assert ("beside.yaml evaluates it with other settings (knn_k 9, here 20)" in page) is not stays


def test_a_retired_encoder_is_marked_wherever_its_scores_are_shown(probed):
    score_like_the_first(probed, OTHER)
    settings = changed(probed.settings, lambda e: e["encoders"][OTHER].update(retired=True))

    encoders, page, reasons = table_of(settings)

    assert OTHER in encoders
    assert f"| {OTHER} (retired) " in page
    assert reasons == (f"encoder {OTHER} is retired: it is not trained any more",)


def test_scores_on_different_patches_are_marked(probed):
    """An encoder that was trained again knows more sections than the others, whose scores are current all the same."""
    score_like_the_first(probed, OTHER, without_sections=("0003",))

    _, page, reasons = table_of(probed.settings)

    main = page.split("## All labels")[1].split("## ")[0]
    header, *rows = [[c.strip() for c in line.split("|")] for line in main.splitlines() if line.startswith("| ")]
    sets = {(row[header.index("encoder")], row[header.index("seen set")]) for row in rows}
    assert sets == {(ENCODER, "1"), (f"{OTHER} (other patches)", "2")}
    assert "unseen set" in header  # B20 has a section of that name, too.
    assert len(reasons) == 2
    assert all("not to be compared across sets" in reason for reason in reasons)


def test_one_set_of_patches_for_all_needs_no_word(probed):
    score_like_the_first(probed, OTHER)

    _, page, reasons = table_of(probed.settings)

    assert reasons == ()
    assert "seen set" not in page


def test_scores_that_change_while_the_table_is_made_stop_it(probed):
    inputs = METRICS_TABLE.inputs(probed.settings)
    path = probed.folder / "metrics.parquet"
    write_table(path, read_table(path, "metrics").assign(accuracy=0.5), "metrics")
    write_stamp(probed.folder, LINEAR_PROBE.inputs(probed.settings, ENCODER))

    with pytest.raises(StoreError, match="computed again while the table was made"):
        METRICS_TABLE.compute(probed.settings, None, probed.store.metrics(), inputs, recompute=False)


def test_the_page_of_results_shows_the_table_and_not_whatever_was_evaluated(probed):
    """Scores of other settings stand in the store beside those of the table."""
    metrics_of = runpy.run_path(str(PROJECT / "benchmarks" / "results.py"))["metrics_of"]
    METRICS_TABLE.run(probed.settings, None)
    assert set(metrics_of(probed.store)["encoder"]) == {ENCODER}

    score_like_the_first(probed, OTHER)
    with pytest.raises(StoreError, match="evaluated since"):
        metrics_of(probed.store)

    write_stamp(probed.store.linear_probes(OTHER, VERSION), {"of": "other settings"})
    METRICS_TABLE.run(probed.settings, None)
    assert set(metrics_of(probed.store)["encoder"]) == {ENCODER}
