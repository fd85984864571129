"""Training runs behind torchrun: stopped, and continued, also with another number of ranks."""

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

from cytonet_pipeline.learning.data.packing import pack
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.learning.training.loop import Training
from cytonet_pipeline.learning.training.run import DONE, run
from cytonet_pipeline.store import read_table

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
# torchrun forwards only the signals that are named here.
STEPS = 20_000
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "PET_SIGNALS_TO_HANDLE": "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1",
}


def start(folder, tiny):
    options = ["--data", str(tiny.data), "--device", "cpu", "--threads", "1"]
    command = [*TORCHRUN, "2", "-m", "cytonet_pipeline.learning", str(folder), *options]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def progress_of(folder):
    try:
        return json.loads((folder / "progress.json").read_text())
    except FileNotFoundError:
        return {}


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_two_ranks_stop_at_a_signal_and_one_process_continues(tiny, number, caplog):
    """Every rank gets the signal from torchrun; the step is finished and a checkpoint written."""
    folder = tiny.folder(steps=STEPS, watch_every=STEPS, checkpoint_every=STEPS, batch_size=8)
    launched = start(folder, tiny)
    deadline = time.monotonic() + 120
    while progress_of(folder).get("step", 0) < 2 and launched.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    launched.send_signal(number)
    try:
        launched.communicate(timeout=120)
    finally:
        # Ranks that torchrun has lost would train on: each has a session of its own.
        with contextlib.suppress(ProcessLookupError):
            os.kill(progress_of(folder)["pid"], signal.SIGKILL)

    assert progress_of(folder)["state"] == "interrupted"
    assert launched.returncode != 0
    (checkpoint,) = (folder / "checkpoints").iterdir()
    done = int(checkpoint.stem.removeprefix("step-"))
    assert 2 <= done < STEPS

    caplog.set_level(logging.INFO)
    training = Training(EncoderFolder(folder), pack(EncoderFolder(folder), tiny.data), torch.device("cpu"))
    outcome = training.run(stop=True, report=lambda **_: None)

    assert f"after step {done}: goes on with ranks 2 → 1" in caplog.text
    assert any(f"after step {done}: goes on with ranks 2 → 1" in warning for warning in outcome.warnings)
    assert sorted((folder / "checkpoints").iterdir())[-1].stem == f"step-{done + 1:08d}"


def test_two_ranks_train_what_one_process_trains(tiny):
    """Every parameter, also those of normalisations; and all validation measures."""
    options = {"steps": 3, "watch_every": 3, "optimizer": {"name": "lars", "learning_rate": 1.0, "warmup_steps": 1}}
    alone, together = tiny.folder("alone", **options), tiny.folder("together", **options)
    assert run(alone, tiny.data, torch.device("cpu")) == DONE
    launched = start(together, tiny)
    output, _ = launched.communicate(timeout=200)
    assert launched.returncode == 0, output.decode()

    one, other = (load_file(folder / "encoder.safetensors") for folder in (alone, together))
    for name, value in one.items():
        message = f"{name}: {(other[name] - value).abs().max():g} apart"
        torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-5, msg=message)
    rows = [read_table(folder / "history.parquet", "history").iloc[-1] for folder in (alone, together)]
    for column in ("loss", "gradient_norm", "effective_positives", "effective_rank", "alignment", "uniformity"):
        assert rows[1][column] == pytest.approx(rows[0][column], rel=1e-3), column


# As `python -m cytonet_pipeline.learning`, but the last rank dies before a given step.
KILLED = """
import os, signal, sys
from cytonet_pipeline.learning.__main__ import main
from cytonet_pipeline.learning.training.loop import Training
step = Training.step
def killed(self, loaded):
    if loaded.batch.step == int(sys.argv[-1]) and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, loaded)
Training.step = killed
sys.exit(main(sys.argv[1:-1]))
"""


def train_on_two(folder, tiny, script, killed_at=-1):
    options = ["--data", str(tiny.data), "--device", "cpu", "--threads", "1", str(killed_at)]
    command = [*TORCHRUN, "2", str(script), str(folder), *options]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)


@pytest.mark.long
def test_ranks_of_which_one_was_killed_continue_bit_for_bit(tiny, tmp_path):
    """Of two ranks; more may differ by rounding, because DDP regroups gradients after its first step."""
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    options = {"steps": 9, "watch_every": 9, "checkpoint_every": 2, "batch_size": 32}
    whole, killed = tiny.folder("whole", **options), tiny.folder("killed", **options)
    assert train_on_two(whole, tiny, script).returncode == DONE

    ended = train_on_two(killed, tiny, script, killed_at=5)
    assert ended.returncode != DONE
    assert "has lost another rank of this training run" in ended.stdout + ended.stderr
    assert not (killed / "encoder.json").exists()
    assert train_on_two(killed, tiny, script).returncode == DONE

    one, other = (load_file(folder / "encoder.safetensors") for folder in (whole, killed))
    assert one.keys() == other.keys()
    assert all(torch.equal(other[name], value) for name, value in one.items())
    record = json.loads((killed / "encoder.json").read_text())
    assert [run["after_step"] for run in record["runs"]] == [0, 4]
