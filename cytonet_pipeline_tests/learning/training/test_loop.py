"""A training run: what it leaves, that it survives being killed, and what it refuses."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from cytonet_pipeline.errors import StoreError, TrainingError
from cytonet_pipeline.learning.__main__ import main
from cytonet_pipeline.learning.backbones.encoders import read_metadata
from cytonet_pipeline.learning.backbones.small import SmallBackbone
from cytonet_pipeline.learning.data.batches import load_batches
from cytonet_pipeline.learning.data.packing import pack
from cytonet_pipeline.learning.data.sources import SectionPatches
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.learning.prepare import finish
from cytonet_pipeline.learning.training import loop
from cytonet_pipeline.learning.training import run as run_of_one_rank
from cytonet_pipeline.learning.training.loop import Training
from cytonet_pipeline.learning.training.run import CONTINUE, DONE, FAILED, ProgressFile, run
from cytonet_pipeline.learning.training.validation_monitor import ValidationMonitor
from cytonet_pipeline.store import read_record, read_table, write_record, write_table
from cytonet_pipeline_tests.learning.tiny_training import TinyTraining

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread():
    """As many as the processes that tests start have: more would sum in another order."""
    with threads(1):
        yield


@contextmanager
def threads(number):
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained_once(scans, tmp_path_factory):
    """A finished training run with the usual options, to compare with and to copy."""
    tiny = TinyTraining(scans.data, tmp_path_factory.mktemp("once") / "store", scans.sections, scans.patches)
    folder = tiny.folder("whole")
    with threads(1):
        train(folder, tiny)
    return folder


def train(folder, tiny):
    return run(folder, tiny.data, CPU)


def source_of(folder, tiny):
    return pack(EncoderFolder(folder), tiny.data)


class After:
    """A stop request that comes after some steps."""

    def __init__(self, steps):
        self.left = steps

    def __bool__(self):
        self.left -= 1
        return self.left <= 0


def same_weights(a, b, other="encoder.safetensors"):
    one, other = load_file(a / "encoder.safetensors"), load_file(b / other)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("method", ["cytonet", "supcon", "scratch", "random"])
def test_training_leaves_what_evaluation_needs(tiny, method):
    folder = tiny.folder(method, method=method)

    assert train(folder, tiny) == DONE

    record = finish(folder)
    assert record["method"] == method
    assert record["figures"]["feature_dim"] == 256
    assert json.loads((folder / "progress.json").read_text())["state"] == "done"


def test_the_history_holds_losses_positives_and_validation_measures(trained_once):
    history = read_table(trained_once / "history.parquet", "history")

    assert history["step"].tolist() == list(range(1, 13))
    measured = history.dropna(subset=["knn_accuracy"])
    assert measured["step"].tolist() == [6, 12]
    assert measured[["effective_rank", "mean_cosine", "alignment", "uniformity"]].notna().all(axis=None)
    assert (history["effective_positives"] > 1).all()
    assert history["cross_brain_share"].between(0, 1).all()


def test_training_tells_two_textures_apart(tiny):
    """Two classes of equal size: half would be right by chance."""
    folder = tiny.folder("scratch", method="scratch", steps=40, watch_every=40)
    train(folder, tiny)

    history = read_table(folder / "history.parquet", "history")

    assert history["accuracy"].iloc[-10:].mean() > 0.8
    assert history["knn_accuracy"].iloc[-1] > 0.8


def test_the_classifier_of_training_from_scratch_names_its_areas(tiny):
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


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_gives_the_same_weights_and_another_gives_others(tiny, trained_once, seed):
    folder = tiny.folder(seed=seed)
    train(folder, tiny)

    assert same_weights(trained_once, folder) == (seed == 0)


# Forks of a process that has imported torch: a process of its own each would spend most of its time on that.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__, "torch._dynamo"])


def train_until_killed(arguments: list[str], last: int) -> None:
    step = Training.step

    def killed(self, loaded):
        if loaded.batch.step == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, loaded)

    Training.step = killed
    sys.exit(main(arguments))


@pytest.mark.parametrize(
    ("loading", "workers", "kills", "optimizer"),
    [
        ("packed", 2, (3, 9), "adamw"),
        ("packed", 0, (6,), "lars"),
        ("scans", 2, (7,), "lars"),
        ("scans", 0, (5,), "adamw"),
    ],
)
def test_a_killed_run_continues_bit_for_bit(tiny, loading, workers, kills, optimizer):
    """SIGKILL, as the out-of-memory killer sends it: nothing is cleaned up."""
    options = {"loading": loading, "shuffle_buffer": 96, "checkpoint_every": 2, "workers": workers}
    options["optimizer"] = {"name": optimizer, "warmup_steps": 2}
    whole, killed = tiny.folder("whole", **options), tiny.folder("killed", **options)
    train(whole, tiny)
    for step in kills:
        arguments = [str(killed), "--data", str(tiny.data), "--threads", "1"]
        process = PROCESSES.Process(target=train_until_killed, args=(arguments, step))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not (killed / "encoder.json").exists()
        assert list((killed / "checkpoints").glob("step-*"))

    assert train(killed, tiny) == DONE

    assert same_weights(whole, killed)
    assert finish(killed)["best"] == finish(whole)["best"]
    assert [run["after_step"] for run in finish(killed)["runs"]] == [0, *(step // 2 * 2 for step in kills)]
    assert len(read_table(killed / "history.parquet", "history")) == 12


def test_a_signal_ends_the_step_and_asks_to_be_continued(tiny, trained_once):
    stopped = tiny.folder("stopped")
    training = Training(EncoderFolder(stopped), source_of(stopped, tiny), CPU)

    result = training.run(stop=True, report=lambda **_: None)

    assert not result.finished
    assert [p.stem for p in (stopped / "checkpoints").glob("step-*")] == ["step-00000001"]
    assert train(stopped, tiny) == DONE
    assert same_weights(trained_once, stopped)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_makes_the_run_exit_with_75(tiny, monkeypatch, number):
    folder = tiny.folder()
    step = Training.step

    def interrupted(self, loaded):
        if loaded.batch.step == 5:
            os.kill(os.getpid(), number)
        return step(self, loaded)

    monkeypatch.setattr(Training, "step", interrupted)

    assert train(folder, tiny) == CONTINUE
    assert json.loads((folder / "progress.json").read_text())["state"] == "interrupted"
    assert [p.stem for p in sorted((folder / "checkpoints").iterdir())][-1] == "step-00000006"
    with pytest.raises(TrainingError, match="not finished"):
        finish(folder)


def test_a_signal_while_packing_leaves_no_half_shard_and_asks_to_be_continued(tiny, monkeypatch):
    folder = tiny.folder()
    update = ProgressFile.update

    def interrupted(self, state, **figures):
        if state == "packing":
            os.kill(os.getpid(), signal.SIGUSR1)
        update(self, state, **figures)

    monkeypatch.setattr(ProgressFile, "update", interrupted)

    assert train(folder, tiny) == CONTINUE
    assert list((tiny.store / "packed").rglob("*shard*")) == []


@pytest.mark.parametrize("left", [0, 5, 300, 0.5, -1])
def test_a_checkpoint_cut_short_costs_one_interval(tiny, trained_once, left):
    """In its length, its header, its tensors, or by one byte."""
    folder = copied(trained_once, tiny)
    last = sorted((folder / "checkpoints").glob("step-*"))[-1]
    whole = last.read_bytes()
    last.write_bytes(whole[: int(left * len(whole)) if isinstance(left, float) else left])

    assert train(folder, tiny) == DONE
    assert same_weights(trained_once, folder)


def test_a_checkpoint_with_other_bytes_is_recognised(tiny, trained_once, caplog):
    """A block that a file system lost is full of zeros; safetensors does not look."""
    folder = copied(trained_once, tiny)
    last = sorted((folder / "checkpoints").glob("step-*"))[-1]
    content = bytearray(last.read_bytes())
    content[-5000:-4000] = bytes(1000)
    last.write_bytes(content)

    assert train(folder, tiny) == DONE
    assert "checksum" in caplog.text
    assert same_weights(trained_once, folder)


def test_checkpoints_after_the_restored_one_do_not_outlive_the_next(tiny, trained_once):
    """Otherwise damaged ones would count as the last two, and the sound ones be deleted."""
    folder = copied(trained_once, tiny)
    for path in (folder / "checkpoints").iterdir():
        path.write_bytes(b"damaged")

    training = Training(EncoderFolder(folder), source_of(folder, tiny), CPU)
    training.run(stop=True, report=lambda **_: None)

    assert [p.stem for p in (folder / "checkpoints").iterdir()] == ["step-00000001"]


def copied(folder, tiny):
    """Copy a finished run as one that has not finished."""
    copy = tiny.store / "encoders" / "copy" / "v1"
    shutil.copytree(folder, copy)
    (copy / "encoder.json").unlink()
    return copy


def test_the_last_two_checkpoints_and_the_best_are_kept(tiny, monkeypatch):
    folder = tiny.folder(watch_every=2)
    measure = ValidationMonitor.measure
    accuracies = iter([0.1, 0.9, 0.3, 0.2, 0.9, 0.4])
    monkeypatch.setattr(
        ValidationMonitor, "measure", lambda *given: {**measure(*given), "knn_accuracy": next(accuracies)}
    )
    train(folder, tiny)

    kept = [p.stem for p in sorted((folder / "checkpoints").iterdir())]
    record = finish(folder)

    assert kept == ["step-00000004", "step-00000008", "step-00000012"]
    assert record["best"] == {"step": 4, "knn_accuracy": 0.9, "file": "best.safetensors"}


def test_an_encoder_of_few_labels_is_evaluated_in_its_best_state_with_the_classifier_of_that_step(tiny, monkeypatch):
    folder = tiny.folder(method="scratch", labels_per_area=5, watch_every=2)
    measure = ValidationMonitor.measure
    accuracies = iter([0.1, 0.9, 0.3, 0.2, 0.9, 0.4])
    monkeypatch.setattr(
        ValidationMonitor, "measure", lambda *given: {**measure(*given), "knn_accuracy": next(accuracies)}
    )
    train(folder, tiny)

    record = finish(folder)
    assert record["stopped_after"] == 4
    assert same_weights(folder, folder, other="best.safetensors")
    head = load_file(folder / "checkpoints" / "step-00000004.safetensors")
    classifier = load_file(folder / "classifier.safetensors")
    assert torch.equal(classifier["weight"], head["model.head.weight"])
    last = load_file(folder / "checkpoints" / "step-00000012.safetensors")
    assert not torch.equal(classifier["weight"], last["model.head.weight"])


def test_the_best_state_is_that_of_its_step_also_after_a_kill(tiny, monkeypatch):
    """Measures after the last checkpoint are lost by the kill, and taken again."""
    folder, short = tiny.folder(watch_every=2), tiny.folder("short", watch_every=2)
    measure = ValidationMonitor.measure
    accuracies = []

    def measured(*given):
        accuracies.append(0.9 if len(accuracies) == 1 else 0.1)
        return {**measure(*given), "knn_accuracy": accuracies[-1]}

    monkeypatch.setattr(ValidationMonitor, "measure", measured)
    train(folder, tiny)
    training = Training(EncoderFolder(short), source_of(short, tiny), CPU)
    accuracies.clear()
    training.run(After(4), report=lambda **_: None)

    at_step_4 = {f"model.encoder.backbone.{k}": v for k, v in load_file(folder / "best.safetensors").items()}
    kept = load_file(sorted((short / "checkpoints").iterdir())[-1])
    assert all(torch.equal(kept[name], value) for name, value in at_step_4.items())
    assert read_metadata(folder / "best.safetensors")["step"] == 4
    assert not same_weights(folder, folder, other="best.safetensors")


def test_without_annotated_validation_sections_there_is_no_best_state(tiny):
    bare = tiny.patches.assign(annotated_area=np.int32(0))
    folder = type(tiny)(tiny.data, tiny.store, tiny.sections, bare).folder()
    train(folder, tiny)

    assert finish(folder)["best"] is None
    assert not (folder / "best.safetensors").exists()


@pytest.mark.parametrize("column", ["patch_id", "ref_x_mm", "annotated_area"])
def test_a_training_set_that_changed_under_a_checkpoint_is_refused(tiny, trained_once, column):
    folder = copied(trained_once, tiny)
    patches = read_table(folder / "patches.parquet", "training_patches")
    patches.loc[7, column] = patches[column].max() + 1
    write_table(folder / "patches.parquet", patches, "training_patches")

    with pytest.raises(TrainingError, match="another configuration or training set"):
        train(folder, tiny)


def test_another_number_of_threads_is_allowed_and_reported(tiny, caplog):
    folder = tiny.folder()
    Training(EncoderFolder(folder), source_of(folder, tiny), CPU).run(stop=True, report=lambda **_: None)
    torch.set_num_threads(2)

    assert train(folder, tiny) == DONE

    record = finish(folder)
    assert "threads 1 → 2; not bit for bit" in caplog.text
    assert any("after step 1: goes on with threads 1 → 2" in warning for warning in record["warnings"])
    assert [run["threads"] for run in record["runs"]] == [1, 2]


def test_another_number_of_workers_changes_nothing_and_is_no_warning(tiny, trained_once):
    folder = tiny.folder("other", workers=0)
    Training(EncoderFolder(folder), source_of(folder, tiny), CPU).run(stop=True, report=lambda **_: None)

    assert run(folder, tiny.data, CPU, workers=3) == DONE

    assert same_weights(trained_once, folder)
    assert not any("goes on with" in warning for warning in finish(folder)["warnings"])


def test_a_checkpoint_of_another_configuration_is_refused(tiny, trained_once):
    folder = copied(trained_once, tiny)
    config = read_record(folder / "config.json")
    config["block"]["optimizer"]["learning_rate"] = 0.5
    write_record(folder / "config.json", config)

    with pytest.raises(TrainingError, match="another configuration"):
        train(folder, tiny)


def test_a_loss_that_is_not_finite_names_step_and_patches_and_keeps_the_last_checkpoint(tiny, monkeypatch):
    folder = tiny.folder(checkpoint_every=2)
    step = Training.step

    def poisoned(self, loaded):
        if loaded.batch.step == 5:
            with torch.no_grad():
                self.model.encoder.backbone.layers[0].weight[0] = torch.nan
        return step(self, loaded)

    monkeypatch.setattr(Training, "step", poisoned)

    with pytest.raises(TrainingError, match=r"step 6; patches \d+, "):
        train(folder, tiny)

    kept = sorted((folder / "checkpoints").iterdir())[-1]
    assert kept.stem == "step-00000004"
    assert all(torch.isfinite(value).all() for value in load_file(kept).values())
    assert json.loads((folder / "progress.json").read_text())["state"] == "failed"


def test_a_run_killed_after_its_last_checkpoint_is_finished_by_the_next(tiny, monkeypatch):
    """No step is left: what was not written before would never be written."""
    folder = tiny.folder()
    save = loop.save_checkpoint

    def killed(place, step, *given):
        save(place, step, *given)
        if step == 12:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        train(folder, tiny)
    monkeypatch.setattr(loop, "save_checkpoint", save)

    assert train(folder, tiny) == DONE
    assert finish(folder)["figures"]["steps"] == 12


def test_a_step_that_needs_too_much_memory_names_the_remedies(tiny, monkeypatch):
    def forward(self, images):
        raise torch.OutOfMemoryError("tried to allocate 3 GiB")

    monkeypatch.setattr(loop.Model, "forward", forward)
    folder = tiny.folder()

    with pytest.raises(TrainingError, match="more memory than cpu has") as raised:
        train(folder, tiny)

    assert "chunk_size" in str(raised.value)
    assert json.loads((folder / "progress.json").read_text())["state"] == "failed"


def test_a_fault_ends_the_reading(tiny, monkeypatch):
    """Its traceback keeps the loop alive: all queued batches would be read before the process could end."""
    ended = []

    def recorded(*arguments, **options):
        try:
            yield from load_batches(*arguments, **options)
        finally:
            ended.append(True)

    def broken(self, loaded):
        raise RuntimeError("the cable is out")

    folder = EncoderFolder(tiny.folder(loading="scans", shuffle_buffer=64))
    monkeypatch.setattr(loop, "load_batches", recorded)
    monkeypatch.setattr(Training, "step", broken)

    with pytest.raises(RuntimeError, match="the cable is out") as caught:
        Training(folder, SectionPatches(folder, tiny.data, 31), CPU).run(stop=False, report=lambda **_: None)

    assert ended
    assert caught.tb is not None


@pytest.mark.parametrize("method", ["random", "intensity", "position"])
def test_only_the_first_rank_writes_what_needs_no_training(tiny, monkeypatch, method):
    """Another rank would declare it finished while this one still writes."""
    folder = tiny.folder(method=method, steps=0)
    monkeypatch.setattr(run_of_one_rank, "rank", lambda: 1)

    assert run(folder, tiny.data, CPU) == DONE

    assert not EncoderFolder(folder).record.exists()
    assert not EncoderFolder(folder).weights.exists()


def test_more_ranks_than_a_batch_has_pairs_are_refused(tiny, monkeypatch):
    """A rank without samples has no mean to normalise with."""
    monkeypatch.setattr(loop, "world_size", lambda: 5)
    folder = tiny.folder(batch_size=8)

    with pytest.raises(TrainingError, match="5 ranks cannot share a batch of 8"):
        Training(EncoderFolder(folder), source_of(folder, tiny), CPU)


def test_a_rank_without_a_gpu_of_its_own_names_how_many_there_are(tiny, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "4")

    assert main([str(tiny.folder()), "--data", str(tiny.data)]) == FAILED
    assert "rank 4 of this machine has no GPU" in capsys.readouterr().err


def test_optimiser_state_comes_back_in_the_layout_of_its_parameters(tiny):
    """Fast kernels want both alike, and another layout would change the order of sums."""
    folder = tiny.folder()
    first = Training(EncoderFolder(folder), source_of(folder, tiny), CPU)
    first.run(After(4), lambda **_: None)
    again = Training(EncoderFolder(folder), source_of(folder, tiny), CPU)
    again.restore()

    for before, after in zip(first.model.parameters(), again.model.parameters(), strict=True):
        for key in ("exp_avg", "exp_avg_sq"):
            one, other = first.optimizer.state[before][key], again.optimizer.state[after][key]
            assert one.stride() == other.stride() == before.stride()
            assert torch.equal(one, other)


def test_a_collapse_is_a_problem_in_the_record_and_not_an_exception(tiny, monkeypatch):
    folder = tiny.folder(steps=2)
    forward = SmallBackbone.forward
    # All features on one line.
    monkeypatch.setattr(
        SmallBackbone, "forward", lambda self, x: forward(self, x).mean(1, keepdim=True).expand(-1, 256)
    )

    assert train(folder, tiny) == DONE
    assert any("effective rank" in problem for problem in read_record(folder / "encoder.json")["problems"])


def test_a_second_run_in_the_same_folder_is_refused(tiny, monkeypatch):
    folder = tiny.folder()
    monkeypatch.setattr("cytonet_pipeline.learning.training.run._LOCK_WAIT_S", 0.0)
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
    help_text = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
    fault = subprocess.run([*command, str(tmp_path), "--data", str(tiny.data)], capture_output=True, text=True)

    assert "code 75" in " ".join(help_text.split())
    assert fault.returncode == 1
    assert "config.json" in fault.stderr
    assert "Traceback" not in fault.stderr


def test_the_folder_of_packs_is_named_by_variables_of_the_node(tmp_path, monkeypatch, capsys):
    """A job script hands over `$TMPDIR` as it stands; only the node knows what it is."""
    from cytonet_pipeline.learning.__main__ import _parser

    monkeypatch.setenv("NODE_DISK", str(tmp_path))
    monkeypatch.delenv("NO_DISK", raising=False)
    given = ["folder", "--data", "data", "--packs"]

    assert _parser().parse_args([*given, "$NODE_DISK/packs"]).packs == tmp_path / "packs"
    with pytest.raises(SystemExit):
        _parser().parse_args([*given, "$NO_DISK/packs"])
    assert "names a variable that is not set" in capsys.readouterr().err
