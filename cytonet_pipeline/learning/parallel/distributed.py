"""Collectives between the ranks of one training run; a single process exchanges nothing.

torch.distributed does the work: NCCL between GPUs, gloo between CPUs. Its `all_gather` takes tensors of equal size, so
rows are padded to those of the longest rank and cut again. Small sums are gathered first and added up by every rank,
so that all hold the same bits.
"""

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cytonet_pipeline.errors import TrainingError

# Packing happens on one rank of each node, measures on rank 0, while the others wait in a collective.
_TIMEOUT = timedelta(hours=6)
# torch 2.13 has renamed this option of DDP.
_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
)
# gloo raises plain RuntimeErrors: its messages name its source files, or the broken connection.
_OF_GLOO = ("gloo", "Connection closed by peer", "Connection reset by peer")


def rank() -> int:
    """Return the number of this process among all ranks, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_rank() -> int:
    """Return the number of this process on its machine, from 0 (torchrun's LOCAL_RANK)."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the ranks that torchrun started (`RANK`, `WORLD_SIZE`); a single process joins nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    yield
    # Not after an error: NCCL would wait here for ranks that wait for this one, and the error would never be printed.
    dist.destroy_process_group()


@contextmanager
def lost_ranks_explained() -> Iterator[None]:
    """Turn the error of a collective whose other ranks have ended into one that says so.

    Raises
    ------
    TrainingError
        The connection to another rank is lost, nearly always because its process has ended.
    """
    try:
        yield
    except RuntimeError as error:
        if world_size() == 1 or not (isinstance(error, dist.DistError) or any(m in str(error) for m in _OF_GLOO)):
            raise
        raise TrainingError(
            f"rank {rank()} has lost another rank of this training run, whose part of the log says why ({error})."
        ) from error


def data_parallel(model: nn.Module) -> DistributedDataParallel:
    """Let ranks average the gradients of a model, whose batch statistics they have synchronised already."""
    # Broadcasting buffers would only repeat those of rank 0.
    unneeded: Any = {_BUFFERS: False}
    return DistributedDataParallel(model, gradient_as_bucket_view=True, **unneeded)


def wait_for_all() -> None:
    """Return when every rank has come here."""
    if world_size() > 1:
        dist.barrier()


def any_rank(flag: bool, device: torch.device) -> bool:
    """Return whether the flag is set on at least one rank; every rank gets the same answer."""
    return highest(int(flag), device) > 0


def highest(number: int, device: torch.device) -> int:
    """Return the highest of the ranks' numbers; every rank gets the same answer."""
    if world_size() == 1:
        return number
    return int(gathered(torch.tensor(number, device=device)).max())


def same_on_all(number: int, device: torch.device) -> bool:
    """Return whether all ranks have the same number; every rank gets the same answer."""
    numbers = gathered(torch.tensor(number, device=device))
    return bool((numbers == numbers[0]).all())


def summed(values: torch.Tensor) -> torch.Tensor:
    """Sum values over ranks, to the same bits on every rank; without gradient."""
    return gathered(values).sum(0)


def gathered(values: torch.Tensor) -> torch.Tensor:
    """Stack the equally shaped values of all ranks along a new first axis, without gradient."""
    values = values.detach().contiguous()
    if world_size() == 1:
        return values[None]
    result = values.new_empty(world_size(), *values.shape)
    dist.all_gather(list(result.unbind(0)), values)
    return result


@dataclass(frozen=True)
class Layout:
    """Which rows of a batch lie on which rank, in order of rank.

    Attributes
    ----------
    counts : tuple of int
        Rows per rank.
    rank : int
        This rank.
    """

    counts: tuple[int, ...]
    rank: int

    @classmethod
    def of(cls, rows: torch.Tensor) -> "Layout":
        """Exchange how many rows each rank holds."""
        if world_size() == 1:
            return cls((len(rows),), 0)
        return cls(tuple(gathered(torch.tensor(len(rows), device=rows.device)).tolist()), rank())

    @property
    def total(self) -> int:
        """Number of rows on all ranks."""
        return sum(self.counts)

    @property
    def own(self) -> slice:
        """Where the rows of this rank lie among all."""
        before = sum(self.counts[: self.rank])
        return slice(before, before + self.counts[self.rank])

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """Gather the rows (n, …) of all ranks into (total, …), without gradient."""
        rows = rows.detach()
        if len(self.counts) == 1:
            return rows
        padded = rows.new_zeros(max(self.counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        return torch.cat([part[:count] for part, count in zip(gathered(padded), self.counts, strict=True)])

    def summed_own(self, values: torch.Tensor) -> torch.Tensor:
        """Sum values (total, …) over ranks and return the rows of this rank, without gradient."""
        total = values.detach().clone()
        dist.all_reduce(total)
        return total[self.own]

    def gather_with_gradient(self, rows: torch.Tensor) -> torch.Tensor:
        """Gather as `gather`; the gradients of all ranks flow back to the owner of a row."""
        return rows if len(self.counts) == 1 else _Gather.apply(rows, self)  # type: ignore[no-untyped-call]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, layout: Layout) -> torch.Tensor:
        ctx.layout = layout
        return layout.gather(rows)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.layout.summed_own(gradient), None
