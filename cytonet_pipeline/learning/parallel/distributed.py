"""What ranks exchange: rows of unequal number, sums, and the wish to stop. One process: nothing.

GPUs by NCCL's collectives, which gather only tensors of equal size: rows are padded to the longest rank's and cut
again. CPUs each with each (`exchange`), on one machine through sockets (`same_machine`). Every rank gets the same sums.
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

from cytonet_pipeline.learning.parallel.exchange import Exchange, Gloo
from cytonet_pipeline.learning.parallel.same_machine import Sockets

# Packing and watching happen on rank 0 alone, while the others stand in a collective call.
_PATIENCE = timedelta(hours=6)
# Its name before torch 2.13 is deprecated since.
_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
)
_exchange: Exchange | None = None


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the ranks that torchrun started (`RANK`, `WORLD_SIZE`, `LOCAL_WORLD_SIZE`); a lone process joins nothing."""
    global _exchange
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        if device.type == "cpu":
            one_machine = os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]
            _exchange = (Sockets.between_ranks() if one_machine else None) or Gloo.between_ranks()
        yield
        # Not after a fault: NCCL would wait here for ranks that wait for this one, and its fault would never be told.
        dist.destroy_process_group()
    finally:
        if _exchange is not None:
            _exchange.close()
            _exchange = None


def data_parallel(model: nn.Module) -> DistributedDataParallel:
    """Let ranks average the gradients of a model, whose batch statistics they have synchronised already."""
    # Broadcasting buffers would only repeat rank 0's.
    unneeded: Any = {_BUFFERS: False}
    parallel = DistributedDataParallel(model, gradient_as_bucket_view=True, **unneeded)
    if _exchange is not None:
        parallel.register_comm_hook(_exchange, _averaged)
    return parallel


def _averaged(exchange: Exchange, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:  # type: ignore[name-defined]
    done: torch.futures.Future[torch.Tensor] = torch.futures.Future()
    done.set_result(exchange.sum_(bucket.buffer()).div_(world_size()))
    return done


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
    return gathered(values).sum(0)


def gathered(values: torch.Tensor) -> torch.Tensor:
    """Values of all ranks, which hold equally many, along a new first axis; without gradient."""
    values = values.detach().contiguous()
    if world_size() == 1:
        return values[None]
    result = values.new_empty(world_size(), *values.shape)
    parts = list(result.unbind(0))
    if _exchange is not None:
        _exchange.tell_all(values, parts)
    else:
        dist.all_gather(parts, values)
    return result


def highest(number: int, device: torch.device) -> int:
    """The highest of the ranks' numbers; every rank gets the same answer."""
    if world_size() == 1:
        return number
    return int(gathered(torch.tensor(number, device=device)).max())


def same_on_all(number: int, device: torch.device) -> bool:
    """Whether all ranks have the same number; every rank gets the same answer."""
    told = gathered(torch.tensor(number, device=device))
    return bool((told == told[0]).all())


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
        return cls(tuple(gathered(torch.tensor(len(rows), device=rows.device)).tolist()), rank())

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
        if _exchange is not None:
            result = rows.new_empty(self.total, *rows.shape[1:])
            _exchange.tell_all(rows.contiguous(), torch.split(result, list(self.counts)))
            return result
        padded = rows.new_zeros(max(self.counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        return torch.cat([part[:count] for part, count in zip(gathered(padded), self.counts, strict=True)])

    def summed_own(self, values: torch.Tensor) -> torch.Tensor:
        """Rows of this rank in the sum over ranks of values (total, …); without gradient."""
        if _exchange is not None:
            return _exchange.sum_of_own(torch.split(values.detach().contiguous(), list(self.counts)))
        total = values.detach().clone()
        dist.all_reduce(total)
        return total[self.own]

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
        return ctx.layout.summed_own(gradient), None
