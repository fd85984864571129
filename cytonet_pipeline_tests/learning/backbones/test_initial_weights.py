"""Continuing from given weights, and the record that a training run leaves."""

import json
import subprocess

import pytest
import torch
from safetensors.torch import load_file, save_file

from cytonet_pipeline.errors import TrainingError
from cytonet_pipeline.learning.backbones.encoders import load_encoder, new_encoder, read_metadata, save_encoder
from cytonet_pipeline.learning.data.packing import pack
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.learning.prepare import finish, write_encoder_folder
from cytonet_pipeline.learning.training.loop import Training
from cytonet_pipeline.learning.training.run import run
from cytonet_pipeline.settings import EncoderBlock
from cytonet_pipeline.store import digest_file
from cytonet_pipeline_tests.conftest import PROJECT
from cytonet_pipeline_tests.learning.tiny_training import DATASET

CPU = torch.device("cpu")


def continued(tiny, path, **block):
    resolved = EncoderBlock(
        **{"method": "cytonet", "working_pixel_um": 64.0, "steps": 2, "batch_size": 32, "init_from": str(path), **block}
    )
    given = {"encoder": None, "version": None, "digest": digest_file(path), "path": str(path)}
    folder = tiny.store / "encoders" / "next" / "v1"
    record = {"encoder": "next", "init_from": given}
    write_encoder_folder(folder, "next", "v1", resolved, DATASET, tiny.sections, tiny.patches, record)
    return EncoderFolder(folder)


@pytest.fixture
def given(tmp_path):
    path = tmp_path / "encoder.safetensors"
    save_encoder(path, new_encoder("small", 0.61, 0.13, 99), {})
    return path


def test_a_training_run_begins_with_the_given_weights_and_their_normalisation(tiny, given):
    folder = continued(tiny, given)

    training = Training(folder, pack(folder, tiny.data), CPU)

    ours, theirs = training.model.encoder.backbone.state_dict(), load_file(given)
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert (training.model.encoder.mean, training.model.encoder.std) == (0.61, 0.13)


def test_a_finished_training_run_names_the_weights_it_began_with(tiny, given):
    folder = continued(tiny, given)
    given.unlink()
    run(folder.path, tiny.data, CPU)

    assert finish(folder.path)["init_from"]["digest"] == digest_file(folder.first)
    assert read_metadata(folder.path)["mean"] == 0.61


def test_weights_that_changed_since_are_refused(tiny, given):
    folder = continued(tiny, given)
    save_encoder(folder.first, new_encoder("small", 0.5, 0.2, 1), {})

    with pytest.raises(TrainingError, match="not the weights that this version continues from"):
        run(folder.path, tiny.data, CPU)


def test_weights_of_another_backbone_are_refused(tiny, given):
    folder = continued(tiny, given, backbone="resnet50")

    with pytest.raises(TrainingError, match="does not hold the weights of a resnet50"):
        run(folder.path, tiny.data, CPU)


def test_a_file_without_our_metadata_is_accepted(tiny, given):
    """As somebody else's `save_file(model.state_dict())` writes it."""
    save_file(load_file(given), given, {"author": "somebody"})
    folder = continued(tiny, given)

    training = Training(folder, pack(folder, tiny.data), CPU)

    assert training.model.encoder.mean != 0.61


def test_the_record_says_what_made_the_weights(tiny):
    folder = tiny.folder(steps=2, seed=3)
    run(folder, tiny.data, CPU)

    record = finish(folder)

    assert record["config"]["encoder"] == EncoderFolder(folder).block.model_dump(mode="json")
    assert record["config"]["dataset"]["held_out"] == "B20"
    assert record["seeds"]["weights, order, augmentation"] == 3
    assert record["environment"]["packages"]["torch"] == torch.__version__
    (only,) = record["runs"]
    assert (only["ranks"], only["threads"], only["device"]) == (1, torch.get_num_threads(), "cpu")
    assert only["host"]
    if (PROJECT / ".git").exists():
        head = subprocess.run(["git", "-C", str(PROJECT), "rev-parse", "HEAD"], capture_output=True, text=True)
        assert record["environment"]["git"]["commit"] == head.stdout.strip()
    assert set(record["best"]) == {"step", "knn_accuracy", "file"}
    assert not load_encoder(folder / "best.safetensors").training


def test_progress_reports_everything_that_is_monitored(tiny):
    folder = tiny.folder(steps=2)
    run(folder, tiny.data, CPU)

    progress = json.loads((folder / "progress.json").read_text())

    # Not the same-brain share: only one brain has a validation section here.
    monitored = {
        "loss", "learning_rate", "samples_per_second", "data_wait_share", "gradient_norm", "effective_rank",
        "mean_cosine", "effective_positives", "alignment", "uniformity", "knn_accuracy",
    }  # fmt: skip
    assert monitored <= set(progress)
    assert progress["learning_rate"] > 0
