"""One run of `python -m cytonet_pipeline.learning`: from an encoder's folder to its weights and record.

What kind of encoder it is decides what is done: trained, random, or without weights. The record `encoder.json` is
written last: a folder that has it is finished.
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from cytonet_pipeline.errors import CytonetError, TrainingError
from cytonet_pipeline.learning.backbones.initial_weights import random_control
from cytonet_pipeline.learning.data.augmentation import margin_px
from cytonet_pipeline.learning.data.from_scans import SectionPatches
from cytonet_pipeline.learning.data.packing import open_pack, pack
from cytonet_pipeline.learning.data.sources import PatchSource
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.learning.freed_memory import freed_memory_kept
from cytonet_pipeline.learning.parallel.distributed import highest, local_rank, process_group, rank
from cytonet_pipeline.learning.training.interrupts import Stopped, StopRequest, stop_on_signals
from cytonet_pipeline.learning.training.loop import Training
from cytonet_pipeline.learning.training.progress_file import ProgressFile
from cytonet_pipeline.learning.training.record import keep_control, keep_random, keep_trained
from cytonet_pipeline.settings import WITHOUT_WEIGHTS
from cytonet_pipeline.store import lock

DONE = 0
CONTINUE = 75
FAILED = 1
# A node that died leaves its lock; it counts as abandoned after two minutes without heartbeat.
_LOCK_WAIT_S = 180.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Means:
    """What a run works with.

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
    """Make the encoder of a folder, going on where an earlier run was stopped; see `Means` for the parameters.

    Parameters
    ----------
    path : Path
        `encoders/<encoder>/<version>`, laid out by `prepare`.

    Returns
    -------
    int
        0: done; 75: stopped by a signal, run again to continue.

    Raises
    ------
    CytonetError
        The training cannot start or must not go on.
    """
    folder, means = EncoderFolder(path), Means(data, device, packs, workers)
    if folder.record.exists():
        _log.info("%s: finished already", folder.path)
        return DONE
    with freed_memory_kept(device), process_group(device), stop_on_signals() as stop:
        first = rank() == 0
        progress = ProgressFile(folder.progress, silent=not first)
        progress.say("starting", steps=folder.block.steps)
        try:
            if not first:
                code = _make(folder, means, progress, stop)
            else:
                with lock(folder.path / ".training.lock", f"training {folder.name}", wait_s=_LOCK_WAIT_S):
                    code = _make(folder, means, progress, stop)
        except Stopped:
            code = CONTINUE
        except Exception as error:
            progress.say("failed", error=error.what if isinstance(error, CytonetError) else repr(error))
            raise
        progress.say("done" if code == DONE else "interrupted")
        return code


def _make(folder: EncoderFolder, means: Means, progress: ProgressFile, stop: StopRequest) -> int:
    method = folder.block.method
    if method in WITHOUT_WEIGHTS:
        if rank() == 0:
            keep_control(folder)
        return DONE
    source = _source(folder, means, progress, stop)
    if method == "random":
        if rank() == 0:
            began = time.monotonic()
            keep_random(folder, random_control(folder, source, means.device), time.monotonic() - began)
        return DONE
    progress.say("training")
    training = Training(folder, source, means.device, means.workers)
    outcome = training.run(stop, lambda **figures: progress.say("training", **figures))
    if not outcome.finished:
        _log.info("stopped by %s; run again to continue", stop.name or "another rank")
        return CONTINUE
    if rank() == 0:
        keep_trained(folder, outcome, means.device)
    return DONE


def _source(folder: EncoderFolder, means: Means, progress: ProgressFile, stop: StopRequest) -> PatchSource:
    if folder.block.loading == "scans":
        return SectionPatches(folder, means.data, margin_px(folder.work_px, folder.block.augmentation))
    _pack_on_every_node(folder, means, progress, stop)
    return open_pack(folder, means.data, means.packs)


def _pack_on_every_node(folder: EncoderFolder, means: Means, progress: ProgressFile, stop: StopRequest) -> None:
    """The first rank of every node packs while the others wait; whatever ends it on one rank ends it on all."""

    def report(done: int, total: int) -> None:
        stop.raise_if_set()
        progress.say("packing", packed=done, patches=total)

    fault: Exception | None = None
    try:
        if local_rank() == 0:
            pack(folder, means.data, means.packs, report)
    except (Stopped, CytonetError) as raised:
        fault = raised
    worst = highest(0 if fault is None else 1 if isinstance(fault, Stopped) else 2, means.device)
    if fault is not None:
        raise fault
    if worst == 1:
        raise Stopped("another rank")
    if worst == 2:
        raise TrainingError(f"{folder.name}: packing failed on another node; its part of the log says why.")
