"""Training: what it leaves, that it can be killed, and that it refuses what it must."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from cytonet_pipeline.errors import StoreError, TrainingError
from cytonet_pipeline.learning.encoders import SmallBackbone
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.learning.loop import Training
from cytonet_pipeline.learning.packing import pack
from cytonet_pipeline.learning.prepare import finish
from cytonet_pipeline.learning.progress_file import ProgressFile
from cytonet_pipeline.learning.run import CONTINUE, DONE, run
from cytonet_pipeline.store import read_record, read_table, write_record

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread():
    """As many as the processes that tests start: sums in another order are other sums."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train(folder, tiny):
    return run(folder, tiny.data, CPU)


def same_weights(a, b):
    one, other = load_file(a / "encoder.safetensors"), load_file(b / "encoder.safetensors")
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("method", ["cytonet", "supcon", "scratch", "random"])
def test_a_training_leaves_what_evaluation_needs(tiny, method):
    folder = tiny.folder(method, method=method)

    assert train(folder, tiny) == DONE

    record = finish(folder)
    assert record["method"] == method
    assert record["figures"]["feature_dim"] == 256
    assert json.loads((folder / "progress.json").read_text())["state"] == "done"


def test_the_history_holds_losses_positives_and_what_watching_saw(tiny):
    folder = tiny.folder()
    train(folder, tiny)

    history = read_table(folder / "history.parquet", "history")

    assert history["step"].tolist() == list(range(1, 13))
    seen = history.dropna(subset=["knn_accuracy"])
    assert seen["step"].tolist() == [6, 12]
    assert seen[["effective_rank", "mean_cosine", "alignment", "uniformity"]].notna().all(axis=None)
    assert (history["effective_positives"] > 1).all()
    assert history["cross_brain_share"].between(0, 1).all()


def test_training_tells_two_textures_apart(tiny):
    """Two classes of equal size: half would be right by chance."""
    folder = tiny.folder("scratch", method="scratch", steps=40, watch_every=40)
    train(folder, tiny)

    history = read_table(folder / "history.parquet", "history")

    assert history["accuracy"].iloc[-10:].mean() > 0.8
    assert history["knn_accuracy"].iloc[-1] > 0.8


def test_the_classifier_of_a_training_from_scratch_names_its_areas(tiny):
    folder = tiny.folder("scratch", method="scratch")
    train(folder, tiny)

    with safe_open(folder / "classifier.safetensors", "pt") as opened:
        assert json.loads(opened.metadata()["classes"]) == [3, 7]
        assert opened.get_tensor("weight").shape == (2, 256)


@pytest.mark.parametrize("method", ["intensity", "position"])
def test_encoders_without_weights_read_no_scan(tiny, method, tmp_path):
    folder = tiny.folder(method, method=method)

    assert run(folder, tmp_path / "no data set", CPU) == DONE
    assert finish(folder)["backbone"] == "n/a"


def test_the_same_training_twice_gives_the_same_weights(tiny):
    folders = [tiny.folder(name) for name in ("one", "two")]
    for folder in folders:
        train(folder, tiny)

    assert same_weights(*folders)


def test_another_seed_gives_other_weights(tiny):
    folders = [tiny.folder(f"seed{seed}", seed=seed) for seed in (0, 1)]
    for folder in folders:
        train(folder, tiny)

    assert not same_weights(*folders)


def test_a_killed_training_goes_on_bit_for_bit(tiny):
    """SIGKILL, as the out-of-memory killer sends it: nothing is cleaned up."""
    whole = tiny.folder("whole", steps=60, watch_every=60)
    train(whole, tiny)
    killed = tiny.folder("killed", steps=60, watch_every=60)
    command = [sys.executable, "-m", "cytonet_pipeline.learning", str(killed), "--data", str(tiny.data)]
    child = subprocess.Popen([*command, "--threads", "1"], env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while not list((killed / "checkpoints").glob("step-*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (killed / "encoder.json").exists()
    assert list((killed / "checkpoints").glob("step-*"))

    assert train(killed, tiny) == DONE

    assert same_weights(whole, killed)
    assert finish(killed)["problems"] == finish(whole)["problems"]
    assert len(read_table(killed / "history.parquet", "history")) == 60


def test_a_signal_ends_the_step_and_asks_to_be_continued(tiny):
    whole, stopped = tiny.folder("whole"), tiny.folder("stopped")
    train(whole, tiny)
    training = Training(EncoderFolder(stopped), pack(EncoderFolder(stopped), tiny.data), CPU)

    outcome = training.run(stop=True, told=lambda **_: None)

    assert not outcome.finished
    assert [p.stem for p in (stopped / "checkpoints").glob("step-*")] == ["step-00000001"]
    assert train(stopped, tiny) == DONE
    assert same_weights(whole, stopped)


def test_sigterm_makes_the_run_exit_with_75(tiny, monkeypatch):
    folder = tiny.folder()
    step = Training._step

    def interrupted(self, loaded, rate):
        if loaded.batch.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, loaded, rate)

    monkeypatch.setattr(Training, "_step", interrupted)

    assert train(folder, tiny) == CONTINUE
    assert json.loads((folder / "progress.json").read_text())["state"] == "interrupted"
    with pytest.raises(TrainingError, match="not finished"):
        finish(folder)


def test_a_signal_while_packing_leaves_no_half_pack_and_asks_to_be_continued(tiny, monkeypatch):
    folder = tiny.folder()
    said = ProgressFile.say

    def interrupted(self, state, **figures):
        if state == "packing":
            os.kill(os.getpid(), signal.SIGUSR1)
        said(self, state, **figures)

    monkeypatch.setattr(ProgressFile, "say", interrupted)

    assert train(folder, tiny) == CONTINUE
    assert list((tiny.store / "packed").iterdir()) == []


def test_a_truncated_checkpoint_costs_one_interval(tiny):
    whole, folder = tiny.folder("whole"), tiny.folder("cut")
    train(whole, tiny)
    train(folder, tiny)
    (folder / "encoder.json").unlink()
    last = sorted((folder / "checkpoints").glob("step-*"))[-1]
    last.write_bytes(last.read_bytes()[:-100])

    assert train(folder, tiny) == DONE
    assert same_weights(whole, folder)


def test_two_checkpoints_are_kept(tiny):
    folder = tiny.folder()
    train(folder, tiny)

    assert [p.stem for p in sorted((folder / "checkpoints").iterdir())] == ["step-00000008", "step-00000012"]


def test_a_checkpoint_of_another_configuration_is_refused(tiny):
    folder = tiny.folder()
    train(folder, tiny)
    (folder / "encoder.json").unlink()
    config = read_record(folder / "config.json")
    config["block"]["optimizer"]["learning_rate"] = 0.5
    write_record(folder / "config.json", config)

    with pytest.raises(TrainingError, match="another configuration"):
        train(folder, tiny)


def test_a_loss_that_is_not_finite_names_step_and_patches_and_keeps_the_last_checkpoint(tiny, monkeypatch):
    folder = tiny.folder(checkpoint_every=2)
    step = Training._step

    def poisoned(self, loaded, rate):
        if loaded.batch.step == 5:
            with torch.no_grad():
                self.model.encoder.backbone.layers[0].weight[0] = torch.nan
        return step(self, loaded, rate)

    monkeypatch.setattr(Training, "_step", poisoned)

    with pytest.raises(TrainingError, match=r"step 6; patches \d+, "):
        train(folder, tiny)

    kept = sorted((folder / "checkpoints").iterdir())[-1]
    assert kept.stem == "step-00000004"
    assert all(torch.isfinite(value).all() for value in load_file(kept).values())
    assert json.loads((folder / "progress.json").read_text())["state"] == "failed"


def test_a_collapse_is_a_problem_in_the_record_and_not_an_exception(tiny, monkeypatch):
    folder = tiny.folder(steps=2)
    forward = SmallBackbone.forward
    # All features on one line.
    monkeypatch.setattr(
        SmallBackbone, "forward", lambda self, x: forward(self, x).mean(1, keepdim=True).expand(-1, 256)
    )

    assert train(folder, tiny) == DONE
    assert any("effective rank" in problem for problem in read_record(folder / "encoder.json")["problems"])


def test_a_second_training_in_the_same_folder_is_refused(tiny, monkeypatch):
    folder = tiny.folder()
    monkeypatch.setattr("cytonet_pipeline.learning.run._LOCK_WAIT_S", 0.0)
    (folder / ".training.lock").write_text(
        json.dumps({"host": os.uname().nodename, "pid": os.getpid(), "purpose": "x"})
    )

    with pytest.raises(StoreError, match="held by another process"):
        train(folder, tiny)


def test_a_training_set_without_annotations_cannot_train_supcon(tiny):
    bare = tiny.patches.assign(annotated_area=np.int32(0))
    folder = type(tiny)(tiny.data, tiny.store, tiny.sections, bare).folder(method="supcon")

    with pytest.raises(TrainingError, match="0 annotated training patches"):
        train(folder, tiny)


def test_the_command_line_explains_itself_and_its_faults(tiny, tmp_path):
    command = [sys.executable, "-m", "cytonet_pipeline.learning"]
    told = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
    fault = subprocess.run([*command, str(tmp_path), "--data", str(tiny.data)], capture_output=True, text=True)

    assert "code 75" in " ".join(told.split())
    assert fault.returncode == 1
    assert "config.json" in fault.stderr
    assert "Traceback" not in fault.stderr
