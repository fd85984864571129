"""The whole pipeline as its users run it, on small synthetic brains and on the anatomy of Colin-27."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.dataset
import pytest
from safetensors import safe_open
from typer.testing import CliRunner

from cytonet_pipeline.cli import app
from cytonet_pipeline.cluster.local import LocalLauncher
from cytonet_pipeline.evaluation.retrieval.searches import PROTOCOLS
from cytonet_pipeline.scores import retrieval_only, without_retrieval
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import PATCH_INDEX
from cytonet_pipeline.store import Store, Verdict, read_table
from cytonet_pipeline_tests.conftest import CYTONET, cytonet, environment_for, settings_for

# One worker builds the finished run that these tests look at.
# Minutes each, and on brains of their own: tests with a group of theirs may run on the other worker.
pytestmark = pytest.mark.xdist_group("ran")


def store_of(ran) -> Store:
    return Store(ran.settings.store)


def test_every_asset_leaves_what_the_contract_names(ran):
    store = store_of(ran)
    assert store.indexed_brains() == ["B01", "B02", "B20"]
    for brain in store.indexed_brains():
        assert (store.section_scans(brain) / "sections.parquet").exists()
        assert (store.colin27_transforms(brain) / "chain.json").exists()
        assert list(store.patch_index(brain).glob("part-*.parquet"))
    for encoder in ("tiny_cytonet", "tiny_scratch", "tiny_position"):
        folder = store.current_encoder(encoder)
        assert (folder / "encoder.json").exists()
        assert (folder / "training_set.json").exists()
        assert (store.training_set(folder.name) / "sections.parquet").exists()
        assert list(store.patch_embeddings(encoder, folder.name).glob("brain=*/part-*.parquet"))
        assert (store.umap(encoder, folder.name) / "umap.parquet").exists()
        assert (store.area_maps(encoder, folder.name) / "sub-B20_space-MNIColin27_desc-predicted_dseg.nii.gz").exists()
    for kind in ("parquet", "csv", "md", "tex"):
        assert (store.metrics() / f"metrics.{kind}").exists()


def test_the_table_has_every_encoder_on_unseen_sections_and_on_the_unseen_brain(ran):
    metrics = read_table(store_of(ran).metrics() / "metrics.parquet", "metrics")

    assert set(metrics["encoder"]) == {"tiny_cytonet", "tiny_scratch", "tiny_position"}
    assert set(metrics["split"]) == {"seen_brains", "unseen_brain"}
    assert {"linear_E5", "logistic", "knn"} <= set(metrics["protocol"])
    assert "end_to_end" in set(metrics.loc[metrics["encoder"] == "tiny_scratch", "protocol"])
    assert (without_retrieval(metrics)["n_patches"] > 0).all()
    assert set(retrieval_only(metrics)["protocol"]) == set(PROTOCOLS)
    assert (retrieval_only(metrics).query("protocol == 'retrieval_other_brain'")["n_patches"] > 0).all()
    # A control does not correct itself; every other row is held against it.
    of_control = metrics[metrics["position_errors_corrected"].notna()].groupby("encoder")["position_errors_corrected"]
    assert of_control.max()["tiny_position"] == 0
    assert set(of_control.groups) == {"tiny_cytonet", "tiny_scratch", "tiny_position"}
    scored = metrics["macro_f1"].dropna()
    assert scored.between(0, 1).all()
    assert scored.nunique() > 3


def test_the_table_says_first_that_it_comes_from_synthetic_brains(ran):
    text = (store_of(ran).metrics() / "metrics.md").read_text()
    assert "ynthetic" in text.split("|")[0]
    assert text.split("\n\n")[0] in ran.output


def test_the_unseen_brain_was_seen_by_nobody(ran):
    """Pre-training without labels would count as seeing."""
    store = store_of(ran)
    for encoder in ("tiny_cytonet", "tiny_scratch"):
        folder = store.current_encoder(encoder)
        patches = read_table(folder / "patches.parquet", "training_patches")
        sections = read_table(folder / "sections.parquet", "training_sections").set_index(["brain", "sample"])
        assert set(patches["brain"]) == {"B01", "B02"}
        roles = {sections.loc[key, "role"] for key in set(zip(patches["brain"], patches["sample"], strict=True))}
        assert roles <= {"train", "validation"}


def test_other_programs_can_read_the_index_as_one_data_set(ran):
    """Records and pictures beside the parts must not get into the way of pyarrow or pandas."""
    root = store_of(ran).root / "patch_index"

    table = pyarrow.dataset.dataset(root, partitioning="hive").to_table()

    assert set(table["brain"].to_pylist()) == {"B01", "B02", "B20"}
    assert len(pd.read_parquet(root, partitioning=None)) == table.num_rows
    assert len(table["patch_id"].unique()) == table.num_rows


def test_weights_carry_what_is_needed_to_use_them(ran):
    path = store_of(ran).current_encoder("tiny_cytonet") / "encoder.safetensors"
    with safe_open(path, "np") as weights:
        metadata = weights.metadata()
    assert "256" in json.dumps(metadata)


def test_a_second_run_computes_nothing_again(ran):
    """It compares digests in the store; Dagster's log is not asked."""
    weights = store_of(ran).current_encoder("tiny_cytonet") / "encoder.safetensors"
    before = weights.stat().st_mtime_ns

    again = cytonet("run", settings=ran.settings, home=ran.home)

    assert "0 done" in again.stdout
    assert "0 failed" in again.stdout
    assert weights.stat().st_mtime_ns == before


@pytest.fixture
def printed_by(ran, monkeypatch):
    """What a command prints about the finished run, in this process."""
    for name, value in ran.settings.environment().items():
        monkeypatch.setenv(name, value)

    def run(*words: str) -> str:
        result = CliRunner().invoke(app, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


def test_lineage_answers_in_both_directions(printed_by):
    seen = json.loads(printed_by("lineage", "encoder", "tiny_cytonet", "--json"))
    trained = next(row for row in seen if row["n_training_patches"] > 0)

    uses = json.loads(printed_by("lineage", "section", f"{trained['brain']}/{trained['sample']}", "--json"))

    assert {use["encoder"] for use in uses} >= {"tiny_cytonet", "tiny_scratch"}
    assert next(use for use in uses if use["encoder"] == "tiny_cytonet")["role"] == "train"
    held_out = [row for row in seen if row["brain"] == "B20"]
    assert held_out
    assert all(row["n_training_patches"] == 0 and row["role"] == "unseen_brain" for row in held_out)


def test_two_encoders_can_be_compared(printed_by):
    printed = printed_by("lineage", "diff", "tiny_cytonet", "tiny_scratch")
    assert "method" in printed
    assert "scratch" in printed


def test_points_go_to_colin27_and_back(printed_by, tmp_path):
    points = tmp_path / "points.tsv"
    points.write_text("name\tx_mm\ty_mm\tz_mm\na\t-40\t-10\t30\nb\t30\t-50\t20\n")
    there = tmp_path / "there.tsv"
    printed_by("map", "sub-B01", str(points), "--out", str(there))

    back = printed_by("map", "B01", str(there), "--to", "brain")

    rows = [line.split("\t") for line in back.strip().splitlines()]
    assert rows[0] == ["name", "x_mm", "y_mm", "z_mm"]
    returned = np.array([[float(value) for value in row[1:]] for row in rows[1:]])
    np.testing.assert_allclose(returned, [[-40, -10, 30], [30, -50, 20]], atol=0.02)
    assert "-40" not in there.read_text().splitlines()[1].split("\t")[1]


def test_a_brain_that_is_indexed_again_gets_the_same_rows_and_leaves_the_others_alone(ran, tmp_path):
    """Sampling is a function of the brain's own files; other brains keep every byte."""
    shutil.copytree(ran.settings.store, tmp_path / "store")
    settings = ran.settings.model_copy(update={"store": tmp_path / "store"})
    store = Store(settings.store)
    other = store.patch_index("B01") / "part-0.parquet"
    other_bytes, other_time = other.read_bytes(), other.stat().st_mtime_ns
    before = Verdict.read(store.patch_index("B02"))
    own_time = (store.patch_index("B02") / "part-0.parquet").stat().st_mtime_ns

    PATCH_INDEX.run(settings, "B02", recompute=True)

    assert (store.patch_index("B02") / "part-0.parquet").stat().st_mtime_ns != own_time
    assert Verdict.read(store.patch_index("B02")).digest == before.digest
    assert (other.read_bytes(), other.stat().st_mtime_ns) == (other_bytes, other_time)


@pytest.mark.long
@pytest.mark.xdist_group("killed")
def test_a_killed_run_is_taken_up_where_it_stopped(small_brains, tmp_path):
    """SIGKILL in the middle of a training: what was finished is kept, the training goes on from its checkpoint."""
    settings = settings_for(small_brains, tmp_path / "store")
    store = Store(settings.store)
    process = subprocess.Popen(
        [*CYTONET, "run", "--encoders", "tiny_cytonet"],
        env=environment_for(settings, tmp_path / "dagster"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    folder = _wait_for_checkpoint(store, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    _kill_training(folder)
    indices = {brain: (store.patch_index(brain) / "part-0.parquet").stat().st_mtime_ns for brain in ("B01", "B02")}
    assert not (folder / "encoder.json").exists()

    # With the pools of dagster.yaml: a killed run must not keep its place in one for ever.
    finished = cytonet("run", "--encoders", "tiny_cytonet", settings=settings, home=tmp_path / "dagster")

    assert "0 failed" in finished.stdout
    assert store.current_encoder("tiny_cytonet") == folder
    log = (folder / "job" / "attempt-2" / "log.txt").read_text()
    assert re.search(r"continuing after step [1-9]", log), log
    for brain, time_ns in indices.items():
        assert (store.patch_index(brain) / "part-0.parquet").stat().st_mtime_ns == time_ns
    assert not list(store.root.rglob(".writing-*.parquet"))


@pytest.mark.long
@pytest.mark.xdist_group("interrupted")
def test_an_interrupted_run_stops_and_so_does_its_training(small_brains, tmp_path):
    """Ctrl-C: one message, no further partition, no training left behind; what was finished is kept."""
    settings = settings_for(small_brains, tmp_path / "store")
    store = Store(settings.store)
    process = subprocess.Popen(
        [*CYTONET, "run", "--encoders", "tiny_cytonet,tiny_position"],
        env=environment_for(settings, tmp_path / "dagster"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    folder = _wait_for_checkpoint(store, process)

    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)

    assert process.returncode == 130, printed
    assert "what was finished is kept" in printed
    assert "Traceback" not in printed
    assert store.wanted_version("tiny_position") is None
    assert LocalLauncher(settings.data).running(folder) is None
    assert store.indexed_brains() == ["B01", "B02", "B20"]


def _wait_for_checkpoint(store: Store, process: subprocess.Popen):
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        version = store.wanted_version("tiny_cytonet") if store.root.exists() else None
        if version and list((store.encoder("tiny_cytonet", version) / "checkpoints").glob("*")):
            return store.encoder("tiny_cytonet", version)
        assert process.poll() is None, "the run ended before its first checkpoint"
        time.sleep(0.02)
    raise AssertionError("no checkpoint within five minutes")


def _kill_training(folder) -> None:
    """The training has a session of its own and outlives its parent; kill it as a power cut would."""
    job = json.loads((folder / "job" / "attempt-1" / "job.json").read_text())
    try:
        os.killpg(job["pid"], signal.SIGKILL)
    except ProcessLookupError:
        pytest.fail("the training had ended before it could be killed; give it more steps")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{job['pid']}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.05)


@pytest.mark.long
@pytest.mark.xdist_group("colin27")
def test_the_same_commands_run_on_the_anatomy_of_colin27(shared_data, tmp_path):
    """True anatomy, ITK transforms, Julich-Brain areas; a withdrawn section, in-plane warps, a given inverse."""
    settings = Settings(
        data=shared_data / "colin27-brains",
        reference=shared_data / "tpl-MNIColin27",
        store=tmp_path / "store",
        experiments_file=settings_for(tmp_path, tmp_path).experiments_file,
    )

    output = cytonet("run", "--encoders", "tiny_cytonet", settings=settings, home=tmp_path / "dagster").stdout

    store = Store(settings.store)
    assert "0 failed" in output
    sections = read_table(store.section_scans("B01") / "sections.parquet", "section_scans")
    assert sections["status"].value_counts().to_dict() == {"ok": 11, "withdrawn": 1}
    metrics = read_table(store.metrics() / "metrics.parquet", "metrics")
    assert (without_retrieval(metrics).query("split == 'unseen_brain'")["n_areas"] > 20).all()
    assert (store.area_maps("tiny_cytonet", store.current_encoder("tiny_cytonet").name) / "figures.json").exists()
