"""Load batches from the pack or the scans, read ahead by threads.

What a batch holds is a function of its step, so neither the number of threads nor their timing can change it: a thread
gets a step and returns a future. For a GPU these threads also copy the batch into page-locked memory, while the step
before it is computed.
"""

import time
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cytonet_pipeline.learning.data.sampling import Batch
from cytonet_pipeline.learning.data.sources import PatchSource, SectionPatches

_AHEAD = 3


def bytes_held(batch_bytes: int, workers: int, buffer_steps: int, *, locked: bool) -> int:
    """Return the largest number of bytes of patches that a rank holds in host memory while it loads.

    Parameters
    ----------
    batch_bytes : int
        Patches of one rank in a batch.
    workers, buffer_steps : int
        As for `load_batches`; 0 steps where patches come from a pack.
    locked : bool
        Batches go to a GPU by page-locked memory: PyTorch rounds each up to a power of two, and keeps it.
    """
    waiting = _AHEAD if workers else 1
    used = 1
    buffers = (2 if workers else 1) * buffer_steps * batch_bytes
    if not locked:
        return (waiting + used) * batch_bytes + buffers
    # A batch that is being copied exists twice: from a pack one per reader, from the scans one in the gatherer.
    copied = 1 if buffer_steps else min(max(workers, 1), waiting)
    return (waiting + used) * (1 << (batch_bytes - 1).bit_length()) + copied * batch_bytes + buffers


@dataclass(frozen=True)
class LoadedBatch:
    """A rank's part of a batch with its pixels.

    Attributes
    ----------
    patches : (b, edge, edge) uint8 tensor
        With margin, in host memory.
    waited_s : float
        How long the loop waited for it.
    """

    batch: Batch
    patches: torch.Tensor
    waited_s: float


def load_batches(
    source: PatchSource,
    batch_of: Callable[[int], Batch],
    steps: range,
    *,
    workers: int,
    buffer_steps: int,
    device: torch.device,
) -> Generator[LoadedBatch, None, None]:
    """Yield this rank's part of the batch of every step.

    Parameters
    ----------
    source : PatchSource
        `SectionPatches` are read in the order of the sections, `buffer_steps` steps at a time.
    batch_of : callable
        This rank's part of the batch of a step; called from several threads.
    steps : range
        From the first step to be done to the end of the training run.
    workers : int
        Reading threads; 0: nothing is read before it is asked for.
    buffer_steps : int
        Steps whose patches are mixed with each other.
    device : torch.device
        Where batches go. For a GPU they are in page-locked memory, which is copied while it computes.
    """
    readers: Executor = ThreadPoolExecutor(workers) if workers else _Inline()
    # One thread that waits for the readers; among them it could wait for itself.
    gatherer: Executor = ThreadPoolExecutor(1) if workers else _Inline()
    spans: _Spans | None = None
    if isinstance(source, SectionPatches):
        spans = _Spans(source, batch_of, steps, buffer_steps, readers, ahead=workers > 0)

    def pixels(step: int) -> Future[torch.Tensor]:
        if spans is not None:
            return gatherer.submit(lambda: _ready_for(device, spans.gather(step)))
        # Inside the thread: a new epoch's permutation takes seconds for millions of patches.
        return readers.submit(lambda: _ready_for(device, source.read(batch_of(step).rows)))

    waiting: list[Future[torch.Tensor]] = []
    upcoming = iter(steps)
    try:
        for step in steps:
            began = time.monotonic()
            while len(waiting) < (_AHEAD if workers else 1) and (ahead := next(upcoming, None)) is not None:
                waiting.append(pixels(ahead))
            patches = waiting.pop(0).result()
            batch = batch_of(step)
            waited_s = time.monotonic() - began
            yield LoadedBatch(batch, patches, waited_s)
    finally:
        readers.shutdown(wait=True, cancel_futures=True)
        gatherer.shutdown(wait=True, cancel_futures=True)


def _ready_for(device: torch.device, pixels: np.ndarray) -> torch.Tensor:
    """Return pixels as a tensor, page-locked for a GPU."""
    patches = torch.from_numpy(pixels)
    if device.type != "cuda":
        return patches
    # A new thread is on the first GPU, whichever its process trains on.
    with torch.cuda.device(device):
        return patches.pin_memory()


class _Spans:
    """Patches of some steps at a time, read section by section into one buffer; the next span is read meanwhile."""

    def __init__(
        self,
        source: SectionPatches,
        batch_of: Callable[[int], Batch],
        steps: range,
        length: int,
        readers: Executor,
        *,
        ahead: bool,
    ) -> None:
        self._source, self._batch_of, self._steps, self._length = source, batch_of, steps, length
        self._readers, self._ahead = readers, ahead
        self._spans: dict[int, _Span] = {}

    def gather(self, step: int) -> np.ndarray:
        """Wait for the patches of a step, while the next span is read; steps are asked for in order."""
        number = step // self._length
        # Drop the past before another is begun: no more than two are held in memory.
        self._spans = {at: span for at, span in self._spans.items() if at >= number}
        for span in range(number, number + 2 if self._ahead else number + 1):
            if span not in self._spans and span * self._length < self._steps.stop:
                self._spans[span] = self._begin(span)
        return self._spans[number].gather(step)

    def _begin(self, number: int) -> "_Span":
        first = max(number * self._length, self._steps.start)
        steps = range(first, min((number + 1) * self._length, self._steps.stop))
        rows = [self._batch_of(step).rows for step in steps]
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


class _Inline(Executor):
    """Runs what is submitted before it returns."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future
