"""Training steps from files against bare ones: same model, loss, optimiser and augmentation on a tensor in memory.

    cytonet bench train                        all parts that this machine can do, in a few minutes
    cytonet bench train --part demo --part ranks
    cytonet bench train --part gpu --batch 32

`resnet` reads ResNet-50's patches of 512 px straight from scans, `demo` the small encoder's from packed shards, `ranks`
compares two processes with one on the same cores, `gpu` trains ResNet-50 at 1024 and 2048 px in bf16.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from report import announce, claim
from support.training_set import write_training_set
from torch import nn

from cytonet_pipeline.learning.backbones.encoders import new_encoder
from cytonet_pipeline.learning.data.augmentation import Augmentation, margin_px
from cytonet_pipeline.learning.data.packing import pack
from cytonet_pipeline.learning.data.sampling import BatchSampler
from cytonet_pipeline.learning.data.sources import PatchSource, SectionPatches
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.learning.losses.objectives import make_objective
from cytonet_pipeline.learning.parallel.distributed import process_group, rank
from cytonet_pipeline.learning.planning.gpus import GPUS
from cytonet_pipeline.learning.planning.pass_cost import pass_cost
from cytonet_pipeline.learning.training.loop import Model, Training
from cytonet_pipeline.learning.training.optimizers import make_optimizer
from cytonet_pipeline.settings import EncoderBlock
from cytonet_pipeline.store import read_table

PARTS = ("resnet", "demo", "ranks", "gpu")
NEVER = 10**6
Taken = tuple[float, float]
DEMO_BATCH = 512
# Found by its name in CUDA's description of the device.
RATES = {"A100": "A100-40GB", "H100": "H100-80GB", "H200": "H200-141GB", "GH200": "GH200-96GB", "4090": "RTX4090-24GB"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=PARTS, help="default: all; may be given several times")
    parser.add_argument("--rounds", type=int, default=2, help="how often the two sides take turns")
    parser.add_argument("--batch", type=int, default=8, help="of ResNet-50")
    parser.add_argument("--steps", type=int, default=4, help="of ResNet-50, per side and round")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker)
        return
    device = "cpu" if not torch.cuda.is_available() else torch.cuda.get_device_name()
    announce(f"training steps, {torch.get_num_threads()} threads, {device}, PyTorch {torch.__version__}")
    kept: list[bool] = []
    for part in options.part or PARTS:
        print(f"\n{part}")
        with tempfile.TemporaryDirectory(prefix="cytonet-bench-") as root:
            kept += {"resnet": resnet, "demo": demo, "ranks": ranks, "gpu": gpu}[part](Path(root), options)
    sys.exit(0 if all(kept) else 1)


def resnet(root: Path, options: argparse.Namespace) -> list[bool]:
    """ResNet-50 at 512 px from scans, on the CPU. The buffer holds two steps, so that reading never ends."""
    block = block_of(
        "resnet50", 2.0, options.batch, loading="scans", shuffle_buffer=2 * options.batch, precision="float32"
    )
    folder = write_training_set(root, "resnet", block, pixel_um=2.0, work_px=512, size_px=2048, patches=24)
    source = SectionPatches(folder, root / "brains", margin_px(512, block.augmentation))
    ours, bare = compared(folder, source, torch.device("cpu"), options.steps, options.rounds)
    return [claim("ResNet-50 at 512 px from scans, of the bare rate", bare / ours, 0.9, at_most=False)]


def demo(root: Path, options: argparse.Namespace) -> list[bool]:
    """The demo's encoder from packed shards."""
    folder = demo_folder(root, "demo")
    ours, bare = compared(folder, pack(folder, root / "brains"), torch.device("cpu"), 20, options.rounds + 1)
    return [
        claim("demo encoder from a pack, of the bare rate", bare / ours, 0.85, at_most=False),
        claim(f"a step of {DEMO_BATCH}", ours * 1e3, 120, at_most=True, unit=" ms"),
    ]


def ranks(root: Path, options: argparse.Namespace) -> list[bool]:
    """Two processes of one thread each against one of two threads, on the same batch, from a pack."""
    folders = [demo_folder(root, name) for name in ("one", "two")]
    for folder in folders:
        pack(folder, root / "brains")
    together = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    one, two = [], []
    for _ in range(options.rounds):
        one.append(step_seconds_of([sys.executable], folders[0], threads=2))
        two.append(step_seconds_of(together, folders[1], threads=1))
    print(f"  one process   {statistics.median(one) * 1e3:8.1f} ms per step")
    print(f"  two processes {statistics.median(two) * 1e3:8.1f} ms per step")
    print(f"  two processes have {statistics.median(one) / statistics.median(two):.2f} of one process' rate")
    # Nothing is claimed: ranks on CPUs are for tests, their collectives (gloo) are not for speed.
    return []


def gpu(root: Path, options: argparse.Namespace) -> list[bool]:
    """ResNet-50 in bf16 at 1024 and 2048 px, from scans."""
    if not torch.cuda.is_available():
        print("  no GPU here: nothing measured")
        return []
    device, kept = torch.device("cuda"), []
    for work_px in (1024, 2048):
        block = block_of(
            "resnet50", 2.0, options.batch, loading="scans", shuffle_buffer=4 * options.batch, precision="bf16"
        ).model_copy(update={"workers": max(2, (os.cpu_count() or 4) - 2)})
        name = f"gpu{work_px}"
        folder = write_training_set(root, name, block, pixel_um=2.0, work_px=work_px, size_px=8192, patches=48)
        source = SectionPatches(folder, root / "brains", margin_px(work_px, block.augmentation))
        torch.cuda.reset_peak_memory_stats()
        ours, bare = compared(folder, source, device, 5 * options.steps, options.rounds)
        print(f"  memory {torch.cuda.max_memory_reserved() / 2**30:.1f} GiB, {options.batch / ours:.1f} images/s")
        cost = pass_cost("resnet50", 1, work_px, bf16=True, recomputed=False)
        rate = cost.flops * options.batch / ours / 1e12
        print(f"  {rate:.1f} TFLOP/s{share_of_peak(rate)}")
        kept.append(claim(f"ResNet-50 at {work_px} px from scans, of the bare rate", bare / ours, 0.9, at_most=False))
    return kept


def compared(
    folder: EncoderFolder, source: PatchSource, device: torch.device, steps: int, rounds: int
) -> tuple[float, float]:
    """Mean seconds of a step, of the real training loop and of a bare one, in turns."""
    training, bare = Training(folder, source, device), bare_step(folder, source, device)
    sides: dict[str, list[Taken]] = {"from files": [], "bare": []}
    waited = []
    for _ in range(rounds):
        clock = StopAfter(steps + 1, device)
        training.run(clock, lambda **figures: None)
        # The first step waits for the loader to begin.
        sides["from files"] += clock.taken()[1:]
        waited.append(wait_share(folder))
        clock = StopAfter(steps + 1, device)
        while not clock:
            bare()
        sides["bare"] += clock.taken()[1:]
    for name, taken in sides.items():
        # On a machine with other work the clock on the wall says little.
        wall, busy = (statistics.mean(part) * 1e3 for part in zip(*taken, strict=True))
        print(f"  {name:10} {wall:8.1f} ms per step, {busy:8.1f} ms of processor time")
    print(f"  waiting for data {statistics.median(waited):.1%} of the time")
    ours, plain = (statistics.mean(seconds for seconds, _ in taken) for taken in sides.values())
    return ours, plain


def bare_step(folder: EncoderFolder, source: PatchSource, device: torch.device) -> Callable[[], object]:
    """A step of the same model, loss, optimiser and augmentation on patches that are in memory already."""
    block, patches = folder.block, folder.patches
    encoder = new_encoder(block.backbone, 0.6, 0.2, block.seed)
    objective = make_objective(block, patches, encoder.feature_dim, device)
    model: nn.Module = Model(encoder, objective.head).to(device).train()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(model, block.optimizer)
    augment = Augmentation(block.augmentation, folder.work_px, block.seed, device)
    sampler = BatchSampler(
        patches["patch_id"].to_numpy(),
        patches["brain"],
        objective.eligible,
        batch_size=block.batch_size,
        steps=1,
        brain_floor=block.brain_floor,
        seed=block.seed,
    )
    batch = sampler.batch(0)
    pixels = torch.from_numpy(source.read(batch.rows)).to(device)
    rows = torch.from_numpy(batch.rows).to(device)
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=block.precision == "bf16")

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        images = augment(pixels, batch.sample_keys).contiguous(memory_format=torch.channels_last)
        with autocast:
            output = model(images)
        objective.loss(output, rows).backward()
        optimizer.step()

    return step


class StopAfter:
    """Stands where the training loop looks for a wish to stop: notes the time of every step, and ends after some."""

    def __init__(self, steps: int, device: torch.device) -> None:
        self._steps, self._device = steps, device
        self._times = [self._now()]

    def __bool__(self) -> bool:
        self._times.append(self._now())
        return len(self._times) > self._steps

    def taken(self) -> list[Taken]:
        """Seconds of each step by the clock, and of processor time in all threads."""
        pairs = zip(self._times, self._times[1:], strict=False)
        return [(after[0] - before[0], after[1] - before[1]) for before, after in pairs]

    def _now(self) -> Taken:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()


def worker(path: Path) -> None:
    """One rank of `ranks`: train some steps, print the seconds per step."""
    folder = EncoderFolder(path)
    data = path.parents[3] / "brains"
    device = torch.device("cpu")
    with process_group(device):
        clock = StopAfter(25, device)
        Training(folder, pack(folder, data), device).run(clock, lambda **figures: None)
        if rank() == 0:
            print(json.dumps(statistics.median(seconds for seconds, _ in clock.taken()[5:])))


def step_seconds_of(launcher: list[str], folder: EncoderFolder, threads: int) -> float:
    """Seconds per step of `worker`, started by a launcher."""
    done = subprocess.run(
        [*launcher, __file__, "--worker", str(folder.path)],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(done.stderr)
    return float(json.loads(done.stdout.strip().splitlines()[-1]))


def demo_folder(root: Path, name: str) -> EncoderFolder:
    """A training set like the demo's."""
    block = block_of("small", 128.0, DEMO_BATCH, precision="float32")
    return write_training_set(root, name, block, pixel_um=128.0, work_px=32, size_px=512, patches=400)


def block_of(backbone: str, pixel_um: float, batch_size: int, **more: object) -> EncoderBlock:
    """An experiments entry without checkpoints and looks at the validation sections in between."""
    return EncoderBlock.model_validate(
        {
            "method": "cytonet",
            "backbone": backbone,
            "working_pixel_um": pixel_um,
            "batch_size": batch_size,
            "steps": 1000,
            "checkpoint_every": NEVER,
            "watch_every": NEVER,
            **more,
        }
    )


def wait_share(folder: EncoderFolder) -> float:
    """Share of time that the training waited for data, after its first step."""
    return float(read_table(folder.history, "history")["data_wait_share"].iloc[1:].mean())


def share_of_peak(tflops: float) -> str:
    """Of the rate that the maker states, where the table knows the device."""
    described = torch.cuda.get_device_name().replace(" ", "")
    name = next((name for part, name in RATES.items() if part in described), None)
    return f", {tflops / GPUS[name].bf16_tflops:.0%} of {GPUS[name].bf16_tflops:g}" if name else ""


if __name__ == "__main__":
    main()
