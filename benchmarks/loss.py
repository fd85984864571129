"""Loss of a batch of 2048, forward and backward, against InfoNCE on a matrix of the same size; and its peak memory.

Memory is the growth of a child process's resident set beyond what it held after a small batch.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable

import torch
from report import alternate, announce, claim
from torch.nn import functional

from cytonet_pipeline.learning import DistanceWeightedContrastiveLoss, SupervisedContrastiveLoss

TEMPERATURE = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, help="default: PyTorch's")
    parser.add_argument("--peak-of", choices=("ours", "info_nce"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.peak_of:
        print(json.dumps(peak_growth_bytes(options.peak_of, options.batch, options.dim)))
        return
    announce(f"loss, B = {options.batch}, D = {options.dim}, float32, {torch.get_num_threads()} threads")
    kept = [*fast(options), small(options)]
    sys.exit(0 if all(kept) else 1)


def fast(options: argparse.Namespace) -> list[bool]:
    """Time forward and backward passes, alternating with InfoNCE."""
    work = steps(options.batch, options.dim)
    alternate(3, **work)
    seconds = alternate(options.rounds, **work)
    for name, taken in seconds.items():
        print(f"{name:>10}  {taken * 1e3:8.1f} ms")
    return [
        claim(f"time of {name} over InfoNCE", seconds[name] / seconds["info_nce"], 1.5, at_most=True)
        for name in ("ours", "supcon")
    ]


def small(options: argparse.Namespace) -> bool:
    """Measure the peak memory in matrices of B x B."""
    matrix = 4 * options.batch**2
    peaks = {name: measured_peak(name, options) / matrix for name in ("ours", "info_nce")}
    print(f"a matrix has {matrix / 2**20:.0f} MiB; InfoNCE needs {peaks['info_nce']:.1f} of them")
    return claim("peak memory of ours", peaks["ours"], 6, at_most=True, unit=" matrices")


def measured_peak(name: str, options: argparse.Namespace) -> int:
    """Measure the growth in bytes in a process of its own, because the peak of a process never falls."""
    command = [sys.executable, __file__, "--peak-of", name, "--batch", str(options.batch), "--dim", str(options.dim)]
    return int(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def peak_growth_bytes(name: str, batch: int, dim: int) -> int:
    """Return what forward and backward pass add to the peak of this process."""
    # What libraries allocate once does not belong to the loss.
    steps(64, dim)[name]()
    work = steps(batch, dim)[name]
    before = peak_bytes()
    work()
    return peak_bytes() - before


def peak_bytes() -> int:
    """Return the largest resident set of this process so far."""
    if sys.platform == "linux":
        with open("/proc/self/status", encoding="utf-8") as lines:
            return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def steps(batch: int, dim: int) -> dict[str, Callable[[], object]]:
    """Make the forward and backward pass of each loss, on the same embeddings."""
    generator = torch.Generator().manual_seed(0)
    z = functional.normalize(torch.randn(batch, dim, generator=generator), dim=1).requires_grad_()
    # As wide as a brain; eight brains.
    positions_mm = torch.rand(batch, 3, generator=generator) * torch.tensor([140.0, 170, 120])
    brains, labels = torch.arange(batch) % 8, torch.arange(batch) % 113 + 1
    itself, partner = torch.eye(batch, dtype=torch.bool), torch.arange(batch) ^ 1
    distance_weighted, supervised = DistanceWeightedContrastiveLoss(TEMPERATURE), SupervisedContrastiveLoss(TEMPERATURE)

    def info_nce() -> torch.Tensor:
        return functional.cross_entropy((z @ z.T / TEMPERATURE).masked_fill(itself, -1e9), partner)

    def backward_of(loss: Callable[[], torch.Tensor]) -> Callable[[], object]:
        def step() -> None:
            z.grad = None
            loss().backward()

        return step

    return {
        "info_nce": backward_of(info_nce),
        "ours": backward_of(lambda: distance_weighted(z, positions_mm, brains)),
        "supcon": backward_of(lambda: supervised(z, labels, brains)),
    }


if __name__ == "__main__":
    main()
