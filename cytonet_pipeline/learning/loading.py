"""Batches on their way from the pack to the device, read ahead by a thread."""

import time
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from cytonet_pipeline.learning.packing import PackedPatches
from cytonet_pipeline.learning.sampling import Batch, BatchSampler

_AHEAD = 3


@dataclass(frozen=True)
class LoadedBatch:
    """A rank's part of a batch, with its pixels: (B, edge, edge) uint8, with margin, in host memory."""

    batch: Batch
    patches: torch.Tensor
    waited_s: float


def load_batches(
    pack: PackedPatches, sampler: BatchSampler, start: int, steps: int, rank: int, world_size: int, *, pinned: bool
) -> Generator[LoadedBatch, None, None]:
    """Yield the batches of steps `start` to `steps`; pinned memory travels to a GPU while it computes."""

    def load(step: int) -> tuple[Batch, torch.Tensor]:
        batch = sampler.batch(step).of_rank(rank, world_size)
        patches = torch.from_numpy(np.ascontiguousarray(pack.read(batch.rows)))
        return batch, patches.pin_memory() if pinned else patches

    # One thread: the sampler remembers the permutation of an epoch, and order must not depend on timing.
    pool = ThreadPoolExecutor(1)
    try:
        waiting: deque[Future[tuple[Batch, torch.Tensor]]] = deque()
        upcoming = iter(range(start, steps))
        for _ in range(start, steps):
            while len(waiting) < _AHEAD and (step := next(upcoming, None)) is not None:
                waiting.append(pool.submit(load, step))
            began = time.monotonic()
            batch, patches = waiting.popleft().result()
            yield LoadedBatch(batch, patches, time.monotonic() - began)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
