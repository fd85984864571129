"""Whole trainings behind torchrun: stopped, continued, and by another number of ranks."""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.learning.loop import Training
from cytonet_pipeline.learning.packing import pack
from cytonet_pipeline.learning.run import DONE, run
from cytonet_pipeline.store import read_table

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
# torchrun passes on only the signals that it is told of.
STEPS = 20_000
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "PET_SIGNALS_TO_HANDLE": "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1",
}


def start(folder, tiny):
    command = [*TORCHRUN, "cytonet_pipeline.learning", str(folder), "--data", str(tiny.data), "--device", "cpu"]
    return subprocess.Popen(
        [*command, "--threads", "1"], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def said(folder):
    try:
        return json.loads((folder / "progress.json").read_text())
    except FileNotFoundError:
        return {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_two_ranks_stop_at_a_signal_and_one_process_goes_on(tiny, number, caplog):
    """Every rank gets the signal from torchrun; the step is finished and a checkpoint written."""
    folder = tiny.folder(steps=STEPS, watch_every=STEPS, checkpoint_every=STEPS, batch_size=8)
    launched = start(folder, tiny)
    deadline = time.monotonic() + 120
    while said(folder).get("step", 0) < 2 and launched.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    launched.send_signal(number)
    try:
        launched.communicate(timeout=120)
    finally:
        # Ranks that torchrun has lost would train on: each has a session of its own.
        with contextlib.suppress(ProcessLookupError):
            os.kill(said(folder)["pid"], signal.SIGKILL)

    assert said(folder)["state"] == "interrupted"
    assert launched.returncode != 0
    (checkpoint,) = (folder / "checkpoints").iterdir()
    done = int(checkpoint.stem.removeprefix("step-"))
    assert 2 <= done < STEPS

    caplog.set_level(logging.INFO)
    training = Training(EncoderFolder(folder), pack(EncoderFolder(folder), tiny.data), torch.device("cpu"))
    outcome = training.run(stop=True, told=lambda **_: None)

    assert f"after step {done}: goes on with ranks 2 → 1" in caplog.text
    assert any(f"after step {done}: goes on with ranks 2 → 1" in warning for warning in outcome.warnings)
    assert sorted((folder / "checkpoints").iterdir())[-1].stem == f"step-{done + 1:08d}"


def test_two_ranks_train_what_one_process_trains(tiny):
    """Every parameter, also those of normalisations; and all that is watched."""
    options = {"steps": 3, "watch_every": 3, "optimizer": {"name": "lars", "learning_rate": 1.0, "warmup_steps": 1}}
    alone, together = tiny.folder("alone", **options), tiny.folder("together", **options)
    assert run(alone, tiny.data, torch.device("cpu")) == DONE
    launched = start(together, tiny)
    output, _ = launched.communicate(timeout=200)
    assert launched.returncode == 0, output.decode()

    one, other = (load_file(folder / "encoder.safetensors") for folder in (alone, together))
    for name, value in one.items():
        told = f"{name}: {(other[name] - value).abs().max():g} apart"
        torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-5, msg=told)
    rows = [read_table(folder / "history.parquet", "history").iloc[-1] for folder in (alone, together)]
    for column in ("loss", "gradient_norm", "effective_positives", "effective_rank", "alignment", "uniformity"):
        assert rows[1][column] == pytest.approx(rows[0][column], rel=1e-3), column
