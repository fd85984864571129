"""What ranks exchange: rows of unequal number, sums, and the wish to stop. One process: nothing.

Everything works over gloo (CPU) and NCCL. gloo gathers only tensors of equal size, so rows are padded to the longest
rank's and cut again.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

# Packing and watching happen on rank 0 alone, while the others stand in a collective call.
_PATIENCE = timedelta(hours=6)


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the ranks that torchrun started (`RANK`, `WORLD_SIZE`); a lone process joins nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def local_rank() -> int:
    """Number of this process on its machine, from 0 (torchrun's LOCAL_RANK)."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def wait_for_all() -> None:
    """Return when every rank has come here."""
    if world_size() > 1:
        dist.barrier()


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on at least one rank; every rank gets the same answer."""
    return highest(int(flag), device) > 0


def summed(values: torch.Tensor) -> torch.Tensor:
    """Sum over ranks, without gradient."""
    values = values.detach().clone()
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def gathered(values: torch.Tensor) -> torch.Tensor:
    """Values of all ranks, which hold equally many, along a new first axis; without gradient."""
    values = values.detach().contiguous()
    parts = [torch.empty_like(values) for _ in range(world_size())]
    if world_size() == 1:
        return values[None]
    dist.all_gather(parts, values)
    return torch.stack(parts)


def highest(number: int, device: torch.device) -> int:
    """The highest of the ranks' numbers; every rank gets the same answer."""
    if world_size() == 1:
        return number
    said = torch.tensor([number], device=device)
    dist.all_reduce(said, op=dist.ReduceOp.MAX)
    return int(said.item())


@dataclass(frozen=True)
class Layout:
    """Which rows of a batch lie on which rank, in order of rank."""

    counts: tuple[int, ...]
    rank: int

    @classmethod
    def of(cls, rows: torch.Tensor) -> "Layout":
        """Exchange how many rows each rank holds."""
        if world_size() == 1:
            return cls((len(rows),), 0)
        own = torch.tensor([len(rows)], device=rows.device)
        counts = [torch.zeros_like(own) for _ in range(world_size())]
        dist.all_gather(counts, own)
        return cls(tuple(int(count.item()) for count in counts), rank())

    @property
    def total(self) -> int:
        """Rows on all ranks."""
        return sum(self.counts)

    @property
    def own(self) -> slice:
        """Where the rows of this rank lie among all."""
        before = sum(self.counts[: self.rank])
        return slice(before, before + self.counts[self.rank])

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows of all ranks, without gradient."""
        rows = rows.detach()
        if len(self.counts) == 1:
            return rows
        padded = rows.new_zeros(max(self.counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in self.counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, self.counts, strict=True)])

    def gather_with_gradient(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows of all ranks; the gradients of all ranks flow back to the owner of a row."""
        return rows if len(self.counts) == 1 else _Gather.apply(rows, self)  # type: ignore[no-untyped-call]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, layout: Layout) -> torch.Tensor:
        ctx.layout = layout
        return layout.gather(rows)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return summed(gradient.contiguous())[ctx.layout.own], None
