"""The launcher with real training on two ranks: torchrun, gloo, SIGTERM, exit code 75, continuation."""

import json
import time

import pytest
import torch

from cytonet_pipeline.cluster.attempt import CONTINUE
from cytonet_pipeline.cluster.local import LocalLauncher
from cytonet_pipeline.learning.prepare import finish
from cytonet_pipeline.learning.training.run import run
from cytonet_pipeline.store import read_table
from cytonet_pipeline_tests.learning.tiny_training import write_tiny_training


@pytest.mark.long
@pytest.mark.timeout(300)
def test_two_ranks_are_interrupted_and_continued(tmp_path):
    """torchrun exits with 1 in any case; the last state that the training process reported decides."""
    tiny = write_tiny_training(tmp_path)
    folder = tiny.folder(steps=40, checkpoint_every=1000, watch_every=40)
    launcher = LocalLauncher(tiny.data, processes=2, threads=1)
    attempt = launcher.start(launcher.reserve(folder))
    while attempt.poll() is None and attempt.progress().get("step", 0) < 1:
        time.sleep(0.02)

    assert attempt.terminate() == CONTINUE, attempt.tail(40)
    (checkpoint,) = (folder / "checkpoints").glob("step-*")
    assert 0 < int(checkpoint.stem.removeprefix("step-")) < 40

    launcher.train(folder)

    record = finish(folder)
    alone = tiny.folder("alone", steps=40, checkpoint_every=1000, watch_every=40)
    run(alone, tiny.data, torch.device("cpu"))
    assert record["figures"]["ranks"] == 2
    together, single = (read_table(place / "history.parquet", "history") for place in (folder, alone))
    assert together["step"].tolist() == list(range(1, 41))
    # The same batches, augmentations and batch statistics; later steps drift apart by rounding.
    assert together["loss"][:4].tolist() == pytest.approx(single["loss"][:4].tolist(), rel=1e-3)
    assert together["positive_mass"].tolist() == pytest.approx(single["positive_mass"].tolist(), rel=1e-5)
    assert json.loads((folder / "progress.json").read_text())["state"] == "done"
