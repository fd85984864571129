"""Run `python -m cytonet_pipeline.learning`: from an encoder's folder to its weights and record.

The method of the encoder decides what is done: it is trained, pretrained elsewhere, random, or without weights. The
record `encoder.json` is written last: a folder that has it is finished.
"""

import logging
import math
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from cytonet_pipeline.errors import CytonetError, TrainingError
from cytonet_pipeline.learning.backbones.initial_weights import pretrained_encoder, random_control
from cytonet_pipeline.learning.data.augmentation import margin_px
from cytonet_pipeline.learning.data.packing import open_pack, pack
from cytonet_pipeline.learning.data.sources import PatchSource, SectionPatches
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.learning.parallel.distributed import (
    highest,
    local_rank,
    lost_ranks_explained,
    process_group,
    rank,
)
from cytonet_pipeline.learning.training.loop import Training
from cytonet_pipeline.learning.training.record import record_control, record_trained, record_untrained
from cytonet_pipeline.settings import WITHOUT_WEIGHTS
from cytonet_pipeline.store import lock, write_json

DONE = 0
CONTINUE = 75
FAILED = 1
# SIGTERM from a user or a daemon, SIGUSR1 from a batch system before the time limit.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
# A node that died leaves its lock, which counts as abandoned after two minutes without heartbeat.
_LOCK_WAIT_S = 180.0
_PROGRESS_EVERY_S = 2.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProcessOptions:
    """Where a process of a training run finds its data and what it computes on.

    Attributes
    ----------
    data : Path
        The data set that the section paths start from.
    packs : Path, optional
        Where packed patches lie, best on the node's own disk; default: `packed` in the encoder's store.
    workers : int, optional
        Loader threads; default: those of the experiments entry.
    """

    data: Path
    device: torch.device
    packs: Path | None = None
    workers: int | None = None


def run(path: Path, data: Path, device: torch.device, packs: Path | None = None, *, workers: int | None = None) -> int:
    """Make the encoder of a folder, continuing where an earlier run was stopped.

    Parameters
    ----------
    path : Path
        `encoders/<encoder>/<version>`, laid out by `prepare`.
    data, device, packs, workers
        See `ProcessOptions`.

    Returns
    -------
    int
        0: done; 75: stopped by a signal, run again to continue.

    Raises
    ------
    CytonetError
        The training run cannot start or must not continue.
    """
    folder, options = EncoderFolder(path), ProcessOptions(data, device, packs, workers)
    if folder.record.exists():
        _log.info("%s: finished already", folder.path)
        return DONE
    with process_group(device), stop_on_signals() as stop:
        progress = ProgressFile(folder.progress, silent=rank() != 0)
        progress.update("starting", steps=folder.block.steps)
        try:
            with lost_ranks_explained(), ExitStack() as held:
                if rank() == 0:
                    mine = lock(folder.path / ".training.lock", f"training {folder.name}", wait_s=_LOCK_WAIT_S)
                    held.enter_context(mine)
                code = _make(folder, options, progress, stop)
        except Stopped:
            code = CONTINUE
        except Exception as error:
            progress.update("failed", error=error.what if isinstance(error, CytonetError) else repr(error))
            raise
        progress.update("done" if code == DONE else "interrupted")
        return code


def _make(folder: EncoderFolder, options: ProcessOptions, progress: "ProgressFile", stop: "StopRequest") -> int:
    method = folder.block.method
    if method in WITHOUT_WEIGHTS:
        if rank() == 0:
            record_control(folder)
        return DONE
    if method == "pretrained":
        if rank() == 0:
            began = time.monotonic()
            record_untrained(folder, pretrained_encoder(folder), time.monotonic() - began)
        return DONE
    source = _source(folder, options, progress, stop)
    if method == "random":
        if rank() == 0:
            began = time.monotonic()
            record_untrained(folder, random_control(folder, source, options.device), time.monotonic() - began)
        return DONE
    progress.update("training")
    training = Training(folder, source, options.device, options.workers)
    result = training.run(stop, lambda **figures: progress.update("training", **figures))
    if not result.finished:
        _log.info("stopped by %s; run again to continue", stop.name or "another rank")
        return CONTINUE
    if rank() == 0:
        record_trained(folder, result, options.device)
    return DONE


def _source(
    folder: EncoderFolder, options: ProcessOptions, progress: "ProgressFile", stop: "StopRequest"
) -> PatchSource:
    if folder.block.loading == "scans":
        return SectionPatches(folder, options.data, margin_px(folder.work_px, folder.block.augmentation))
    _pack_on_every_node(folder, options, progress, stop)
    return open_pack(folder, options.data, options.packs)


def _pack_on_every_node(
    folder: EncoderFolder, options: ProcessOptions, progress: "ProgressFile", stop: "StopRequest"
) -> None:
    """Pack on the first rank of every node while the others wait; what ends it on one rank ends it on all."""

    def report(done: int, total: int) -> None:
        if stop:
            raise Stopped(stop.name)
        progress.update("packing", packed=done, patches=total)

    error: Exception | None = None
    try:
        if local_rank() == 0:
            pack(folder, options.data, options.packs, report)
    except (Stopped, CytonetError) as raised:
        error = raised
    worst = highest(0 if error is None else 1 if isinstance(error, Stopped) else 2, options.device)
    if error is not None:
        raise error
    if worst == 1:
        raise Stopped("another rank")
    if worst == 2:
        raise TrainingError(f"{folder.name}: packing failed on another node; its part of the log says why.")


class Stopped(Exception):
    """A stop was requested where there is no checkpoint to write."""


class StopRequest:
    """True from the first stop signal on, whose name it keeps."""

    def __init__(self) -> None:
        self.name = ""

    def __bool__(self) -> bool:
        return bool(self.name)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn SIGTERM and SIGUSR1 into a request while the block runs; main thread only."""
    request = StopRequest()

    def handle(number: int, frame: FrameType | None) -> None:
        request.name = signal.Signals(number).name

    before = {number: signal.signal(number, handle) for number in STOP_SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class ProgressFile:
    """`progress.json`, from which other processes read how far the training run is.

    Replaced atomically, at most every two seconds and at every change of state. It holds `state` (starting, packing,
    training, done, interrupted, failed), `step`, `steps`, the headline figures of the history's last row, `host`, `pid`
    and `updated` (seconds since 1970).
    """

    def __init__(self, path: Path, *, silent: bool = False) -> None:
        self._path, self._silent = path, silent
        self._content: dict[str, Any] = {"host": socket.gethostname(), "pid": os.getpid(), "step": 0, "steps": 0}
        self._written = -math.inf

    def update(self, state: str, **figures: Any) -> None:
        """Set the state and some figures; others stay as they were."""
        changed = state != self._content.get("state")
        self._content |= {"state": state, **figures}
        now = time.monotonic()
        if self._silent or (not changed and now - self._written < _PROGRESS_EVERY_S):
            return
        self._written = now
        write_json(self._path, {**self._content, "updated": time.time()})
