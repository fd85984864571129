"""The launcher of the tests' cluster profile: torchrun, with training that a test can slow down, break or silence.

    python ranks.py CONTROL torchrun's-options -m cytonet_pipeline.learning FOLDER …

Files in CONTROL say what happens: `alone` (one rank, no torchrun), `brake` (seconds per step), `brake-first` (the
same until the job has been requeued), `broken` (an error in the third step), `silent` (ends well, never says a word).
"""

import os
import sys
import time
from pathlib import Path


def launch(control: Path, arguments: list[str]) -> None:
    start = arguments.index("-m")
    training = [str(Path(__file__)), "training", str(control), *arguments[start + 2 :]]
    torchrun = [] if (control / "alone").exists() else ["-m", "torch.distributed.run", *arguments[:start]]
    os.execv(sys.executable, [sys.executable, *torchrun, *training])


def brake_s(control: Path) -> float:
    names = ["brake"] if "SLURM_RESTART_COUNT" in os.environ else ["brake", "brake-first"]
    return max((float((control / name).read_text()) for name in names if (control / name).exists()), default=0.0)


def train(control: Path, arguments: list[str]) -> int:
    if (control / "silent").exists():
        return 0
    from cytonet_pipeline.errors import TrainingError
    from cytonet_pipeline.learning.__main__ import main
    from cytonet_pipeline.learning.training import loop

    step = loop.Training.step

    def slowed(self, loaded, *more):
        began = time.monotonic()
        while time.monotonic() - began < brake_s(control):
            time.sleep(0.02)
        if (control / "broken").exists() and loaded.batch.step == 2:
            raise TrainingError("the third batch is cheese.", to_fix="take another batch")
        return step(self, loaded, *more)

    loop.Training.step = slowed
    return main(arguments)


if __name__ == "__main__":
    if sys.argv[1] == "training":
        sys.exit(train(Path(sys.argv[2]), sys.argv[3:]))
    launch(Path(sys.argv[1]), sys.argv[2:])
