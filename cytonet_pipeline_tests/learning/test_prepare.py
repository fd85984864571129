"""The folder of an encoder: laid out from a training set, checked at the end."""

import threading
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cytonet_pipeline.errors import TrainingError
from cytonet_pipeline.learning import prepare as module
from cytonet_pipeline.learning.backbones.encoders import read_metadata
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.learning.prepare import finish, prepare
from cytonet_pipeline.learning.training.run import run
from cytonet_pipeline.lineage import TrainingSet
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store, read_table, write_table

EXPERIMENTS = """
dataset: {density_per_mm3: 1, held_out: B20, patch_um: 1024}
encoders: {tiny: {method: cytonet, working_pixel_um: 64, steps: 2, batch_size: 32}}
"""


@pytest.fixture
def settings(tiny, tmp_path):
    (tmp_path / "experiments.yaml").write_text(EXPERIMENTS)
    return Settings(
        data=tiny.data, reference=tmp_path, store=tiny.store, experiments_file=tmp_path / "experiments.yaml"
    )


@pytest.fixture
def resolved(tiny, monkeypatch):
    """What the store holds now, as lineage would read it; the version can be changed."""
    decided = {"version": "abc"}

    def resolve(encoder, settings, store):
        return TrainingSet(encoder, decided["version"], tiny.sections, {"encoder": encoder}), tiny.patches

    monkeypatch.setattr(module, "resolve_training_set", resolve)
    return decided


def test_a_prepared_folder_can_be_trained_and_finished(settings, tiny, resolved):
    store = Store(tiny.store)
    store.point_wanted("tiny", "abc")

    folder = prepare(settings, store, "tiny")
    run(folder, tiny.data, torch.device("cpu"))

    assert folder == store.encoder("tiny", "abc")
    assert finish(folder)["version"] == "abc"
    assert read_metadata(folder)["block"]["steps"] == 2
    assert sorted(EncoderFolder(folder).patches["patch_id"]) == sorted(tiny.patches["patch_id"])


def test_of_two_that_prepare_at_once_the_second_keeps_the_job_of_the_first(settings, tiny, resolved, monkeypatch):
    """Two runs of one encoder became two jobs: the second laid the folder out anew, and the first job's record went."""
    store = Store(tiny.store)
    store.point_wanted("tiny", "abc")
    resolve = module.resolve_training_set
    second = threading.Thread(target=prepare, args=(settings, store, "tiny"))

    submitted = threading.Event()

    def slowly(*arguments):
        if threading.current_thread() is second:
            submitted.wait(10)
        else:
            second.start()
            time.sleep(0.5)
        return resolve(*arguments)

    monkeypatch.setattr(module, "resolve_training_set", slowly)
    folder = prepare(settings, store, "tiny")
    record = folder / "job" / "attempt-1" / "job.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    submitted.set()
    second.join()

    assert record.exists()


def test_preparing_again_leaves_checkpoints_alone(settings, tiny, resolved):
    store = Store(tiny.store)
    store.point_wanted("tiny", "abc")
    folder = prepare(settings, store, "tiny")
    (folder / "checkpoints").mkdir()

    assert prepare(settings, store, "tiny") == folder
    assert (folder / "checkpoints").exists()


def test_a_store_that_changed_since_the_decision_is_refused(settings, tiny, resolved):
    """Otherwise an encoder would be trained on something that no training set describes."""
    store = Store(tiny.store)
    store.point_wanted("tiny", "abc")
    resolved["version"] = "def"

    with pytest.raises(TrainingError, match="has changed since"):
        prepare(settings, store, "tiny")


@pytest.fixture
def trained(tiny):
    folder = tiny.folder(steps=2)
    run(folder, tiny.data, torch.device("cpu"))
    return folder


def test_a_history_with_a_missing_end_is_not_finished(trained):
    history = read_table(trained / "history.parquet", "history")
    write_table(trained / "history.parquet", history[:-1], "history")

    with pytest.raises(TrainingError, match="ends at step 1 of 2"):
        finish(trained)


def test_weights_that_are_not_numbers_are_not_finished(trained):
    path = trained / "encoder.safetensors"
    weights = load_file(path)
    weights["layers.0.weight"][0] = np.nan
    from safetensors import safe_open

    with safe_open(path, "pt") as opened:
        metadata = opened.metadata()
    save_file(weights, path, metadata)

    with pytest.raises(TrainingError, match=r"not numbers \(backbone.layers.0.weight\)"):
        finish(trained)


def test_missing_weights_are_not_finished(trained):
    (trained / "encoder.safetensors").unlink()

    with pytest.raises(TrainingError, match="missing"):
        finish(trained)
