"""Kill a training run at random moments, again and again, and compare its weights with those of an unbroken one.

    make soak SOAK_MINUTES=60

The moments come from a seed that is printed; the same seed kills at the same moments again.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetensors.numpy import load_file

from cytonet_pipeline_tests.learning.tiny_training import TinyTraining, write_tiny_training

_LONGEST_WAIT_S = 20.0


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--minutes", type=float, default=10.0)
    arguments.add_argument("--seed", type=int, default=int(time.time()))
    given = arguments.parse_args()
    draw = random.Random(given.seed)
    print(f"seed {given.seed}")
    deadline = time.monotonic() + 60 * given.minutes
    with tempfile.TemporaryDirectory() as temporary:
        tiny = write_tiny_training(Path(temporary))
        whole = tiny.folder("whole", steps=200, checkpoint_every=7, watch_every=50)
        if train(tiny, whole).wait() != 0:
            sys.exit("the unbroken training run failed")
        rounds = kills = 0
        while time.monotonic() < deadline:
            rounds += 1
            folder = tiny.folder(f"round{rounds}", steps=200, checkpoint_every=7, watch_every=50)
            kills += killed_until_done(tiny, folder, draw)
            if not same_weights(whole, folder):
                sys.exit(f"round {rounds}, seed {given.seed}: the weights differ from those of the unbroken run")
            print(f"round {rounds}: same weights, {kills} kills so far", flush=True)


def killed_until_done(tiny: TinyTraining, folder: Path, draw: random.Random) -> int:
    """Start training until it ends by itself, killing it after random times; return how often that was."""
    kills = 0
    while True:
        process = train(tiny, folder)
        try:
            # Each attempt may live longer than the one before, so that training always comes to its end.
            code = process.wait(timeout=draw.uniform(0.5, _LONGEST_WAIT_S + kills))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, draw.choice([signal.SIGKILL, signal.SIGTERM]))
            code = process.wait()
            kills += 1
        if code == 0:
            return kills
        if code not in (75, -signal.SIGKILL, -signal.SIGTERM):
            sys.exit(f"{folder.parent.name}: exit code {code}\n{(folder / 'soak.log').read_text()[-2000:]}")


def train(tiny: TinyTraining, folder: Path) -> "subprocess.Popen[bytes]":
    """Start one attempt, in a process group of its own."""
    command = [sys.executable, "-m", "cytonet_pipeline.learning", str(folder), "--data", str(tiny.data)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / "soak.log").open("ab") as log:
        return subprocess.Popen(
            [*command, "--threads", "1"], env=environment, stdout=log, stderr=log, start_new_session=True
        )


def same_weights(a: Path, b: Path) -> bool:
    """Compare weights bit for bit."""
    one, other = (load_file(folder / "encoder.safetensors") for folder in (a, b))
    return one.keys() == other.keys() and all(one[key].tobytes() == other[key].tobytes() for key in one)


if __name__ == "__main__":
    main()
