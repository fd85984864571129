"""Batches on their way from the pack or the scans to the device, read ahead by threads.

What a batch holds is a function of its step, so neither the number of threads nor their timing can change it: a thread
is told a step and puts the result where it is waited for. On its way to a GPU a batch is copied into page-locked memory
by these threads too, while the step before it is computed.
"""

import time
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cytonet_pipeline.learning.data.from_scans import SectionPatches
from cytonet_pipeline.learning.data.sampling import Batch, BatchSampler
from cytonet_pipeline.learning.data.sources import PatchSource

_AHEAD = 3


def bytes_held(batch_bytes: int, workers: int, buffer_steps: int, *, locked: bool) -> int:
    """Bytes of patches that a rank has in host memory at most, while it loads.

    Parameters
    ----------
    batch_bytes : int
        A rank's patches in a batch.
    workers, buffer_steps : int
        As for `load_batches`; 0 steps where patches come from a pack.
    locked : bool
        Batches are bound for a GPU, in page-locked memory: PyTorch takes a power of two for each, and keeps it.
    """
    waiting = _AHEAD if workers else 1
    used = 1
    buffers = (2 if workers else 1) * buffer_steps * batch_bytes
    if not locked:
        return (waiting + used) * batch_bytes + buffers
    # Those that are being copied are there twice: from a pack one in each reader, from the scans one in the gatherer.
    copied = 1 if buffer_steps else min(max(workers, 1), waiting)
    return (waiting + used) * (1 << (batch_bytes - 1).bit_length()) + copied * batch_bytes + buffers


@dataclass(frozen=True)
class LoadedBatch:
    """A rank's part of a batch, with its pixels: (B, edge, edge) uint8, with margin, in host memory."""

    batch: Batch
    patches: torch.Tensor
    waited_s: float


@dataclass(frozen=True)
class Plan:
    """Which batches a rank is going to see.

    Attributes
    ----------
    start, steps : int
        First step, and the end of the training.
    """

    sampler: BatchSampler
    start: int
    steps: int
    rank: int
    world_size: int

    def batch(self, step: int) -> Batch:
        """Give this rank's part of a step."""
        return self.sampler.batch(step).of_rank(self.rank, self.world_size)


def load_batches(
    source: PatchSource, plan: Plan, *, workers: int, buffer_steps: int, device: torch.device
) -> Generator[LoadedBatch, None, None]:
    """Yield the batches of a plan.

    Parameters
    ----------
    source : PatchSource
        `SectionPatches` are read in the order of the sections, `buffer_steps` steps at a time.
    workers : int
        Reading threads; 0: nothing is read before it is asked for.
    buffer_steps : int
        Steps whose patches are mixed with each other.
    device : torch.device
        Where batches go. For a GPU they are handed over in page-locked memory, which travels while it computes.
    """
    readers: Executor = ThreadPoolExecutor(workers) if workers else _AtOnce()
    # One thread that waits for the readers; among them it could wait for itself.
    gatherer: Executor = ThreadPoolExecutor(1) if workers else _AtOnce()
    spans = (
        _Spans(source, plan, buffer_steps, readers, ahead=workers > 0) if isinstance(source, SectionPatches) else None
    )

    def pixels(step: int) -> Future[torch.Tensor]:
        if spans is not None:
            return gatherer.submit(lambda: _bound_for(spans.gather(step), device))
        # Inside the thread: a new epoch's permutation takes seconds for millions of patches.
        return readers.submit(lambda: _bound_for(source.read(plan.batch(step).rows), device))

    waiting: list[Future[torch.Tensor]] = []
    upcoming = iter(range(plan.start, plan.steps))
    try:
        for step in range(plan.start, plan.steps):
            began = time.monotonic()
            while len(waiting) < (_AHEAD if workers else 1) and (ahead := next(upcoming, None)) is not None:
                waiting.append(pixels(ahead))
            patches = waiting.pop(0).result()
            batch = plan.batch(step)
            waited_s = time.monotonic() - began
            yield LoadedBatch(batch, patches, waited_s)
    finally:
        readers.shutdown(wait=True, cancel_futures=True)
        gatherer.shutdown(wait=True, cancel_futures=True)


def _bound_for(pixels: np.ndarray, device: torch.device) -> torch.Tensor:
    """Pixels as a tensor, from where they travel fastest."""
    patches = torch.from_numpy(pixels)
    if device.type != "cuda":
        return patches
    # A thread begins on the first GPU, whichever its process trains on.
    with torch.cuda.device(device):
        return patches.pin_memory()


class _Spans:
    """Patches of some steps at a time, read section by section into one buffer; the next span is read meanwhile."""

    def __init__(
        self,
        source: SectionPatches,
        plan: Plan,
        buffer_steps: int,
        readers: Executor,
        *,
        ahead: bool,
    ) -> None:
        self._source, self._plan, self._length = source, plan, buffer_steps
        self._readers, self._ahead = readers, ahead
        self._spans: dict[int, _Span] = {}

    def gather(self, step: int) -> np.ndarray:
        """Wait for the patches of a step, while the next span is read; steps are asked for in order."""
        number = step // self._length
        # Before another begins: two at a time are enough memory.
        self._spans = {span: begun for span, begun in self._spans.items() if span >= number}
        for span in range(number, number + 2 if self._ahead else number + 1):
            if span not in self._spans and span * self._length < self._plan.steps:
                self._spans[span] = self._begin(span)
        return self._spans[number].gather(step)

    def _begin(self, number: int) -> "_Span":
        first = max(number * self._length, self._plan.start)
        steps = range(first, min((number + 1) * self._length, self._plan.steps))
        rows = [self._plan.batch(step).rows for step in steps]
        flat = np.concatenate(rows)
        order = np.argsort(self._source.section_of[flat], kind="stable")
        buffer = np.empty((len(flat), self._source.edge_px, self._source.edge_px), dtype=np.uint8)
        place = np.empty(len(flat), dtype=np.int64)
        place[order] = np.arange(len(flat))
        places = np.split(place, np.cumsum([len(part) for part in rows])[:-1])
        readings = [
            self._readers.submit(self._source.read_part, part, buffer) for part in self._source.parts(flat[order])
        ]
        return _Span(buffer, dict(zip(steps, places, strict=True)), readings)


@dataclass(frozen=True, eq=False)
class _Span:
    buffer: np.ndarray
    places: dict[int, np.ndarray]
    readings: list[Future[int]]

    def gather(self, step: int) -> np.ndarray:
        for reading in self.readings:
            reading.result()
        return self.buffer[self.places[step]]


class _AtOnce(Executor):
    """Does what it is given before it returns."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future
