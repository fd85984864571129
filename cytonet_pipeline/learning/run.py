"""One run of `python -m cytonet_pipeline.learning`: from an encoder's folder to its weights and record.

What kind of encoder it is decides what is done: trained, random, or without weights. The record `encoder.json` is
written last: a folder that has it is finished.
"""

import logging
import time
from pathlib import Path
from typing import Any

import torch

from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.learning.distributed import process_group, rank, wait_for_all
from cytonet_pipeline.learning.encoders import Encoder, save_encoder
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.learning.interrupts import Stopped, StopRequest, stop_on_signals
from cytonet_pipeline.learning.loop import Outcome, Training
from cytonet_pipeline.learning.packing import PackedPatches, pack
from cytonet_pipeline.learning.progress_file import ProgressFile
from cytonet_pipeline.learning.untrained import random_encoder
from cytonet_pipeline.settings import WITHOUT_WEIGHTS
from cytonet_pipeline.store import lock, write_record

DONE = 0
CONTINUE = 75
FAILED = 1
# A node that died leaves its lock; it counts as abandoned after two minutes without heartbeat.
_LOCK_WAIT_S = 180.0
_log = logging.getLogger(__name__)


def run(path: Path, data: Path, device: torch.device, packs: Path | None = None) -> int:
    """Make the encoder of a folder, going on where an earlier run was stopped.

    Parameters
    ----------
    path : Path
        `encoders/<encoder>/<version>`, laid out by `prepare`.
    data : Path
        The data set that the section paths start from.
    packs : Path, optional
        Where packed patches lie; default: `packed` in the encoder's store.

    Returns
    -------
    int
        0: done; 75: stopped by a signal, run again to continue.

    Raises
    ------
    CytonetError
        The training cannot start or must not go on.
    """
    folder = EncoderFolder(path)
    if folder.record.exists():
        _log.info("%s: finished already", folder.path)
        return DONE
    with process_group(device), stop_on_signals() as stop:
        first = rank() == 0
        progress = ProgressFile(folder.progress, silent=not first)
        progress.say("starting", steps=folder.block.steps)
        try:
            if not first:
                code = _make(folder, data, device, packs, progress, stop)
            else:
                with lock(folder.path / ".training.lock", f"training {folder.name}", wait_s=_LOCK_WAIT_S):
                    code = _make(folder, data, device, packs, progress, stop)
        except Stopped:
            code = CONTINUE
        except CytonetError as error:
            progress.say("failed", error=error.what)
            raise
        progress.say("done" if code == DONE else "interrupted")
        return code


def _make(
    folder: EncoderFolder,
    data: Path,
    device: torch.device,
    packs: Path | None,
    progress: ProgressFile,
    stop: StopRequest,
) -> int:
    method = folder.block.method
    if method in WITHOUT_WEIGHTS:
        _finish(folder, {"distinct patches": 0})
        return DONE
    packed = _packed(folder, data, packs, progress, stop)
    if method == "random":
        began = time.monotonic()
        encoder = random_encoder(folder, packed, device)
        _save(folder, encoder)
        _finish(folder, {**_size(encoder), "steps": 0, "seconds": round(time.monotonic() - began, 1)})
        return DONE
    progress.say("training")
    outcome = Training(folder, packed, device).run(stop, lambda **figures: progress.say("training", **figures))
    if not outcome.finished:
        _log.info("stopped by %s; run again to continue", stop.name or "another rank")
        return CONTINUE
    if rank() == 0:
        _keep(folder, outcome, device)
    return DONE


def _packed(
    folder: EncoderFolder, data: Path, packs: Path | None, progress: ProgressFile, stop: StopRequest
) -> PackedPatches:
    """Rank 0 packs while the others wait."""

    def report(done: int, total: int) -> None:
        stop.raise_if_set()
        progress.say("packing", packed=done, patches=total)

    if rank() == 0:
        pack(folder, data, packs, report)
    wait_for_all()
    return pack(folder, data, packs)


def _keep(folder: EncoderFolder, outcome: Outcome, device: torch.device) -> None:
    _save(folder, outcome.encoder)
    outcome.objective.save(folder.classifier)
    figures = {**outcome.figures, **_size(outcome.encoder), "device": _name_of(device), "torch": torch.__version__}
    for problem in outcome.problems:
        _log.error("%s: %s", folder.name, problem)
    _finish(folder, figures, list(outcome.problems), list(outcome.warnings))


def _save(folder: EncoderFolder, encoder: Encoder) -> None:
    block = folder.block
    save_encoder(
        folder.weights,
        encoder,
        {
            "encoder": folder.name,
            "version": folder.version,
            "work_px": folder.work_px,
            "working_pixel_um": block.working_pixel_um,
            "block": block.model_dump(mode="json"),
        },
    )


def _finish(
    folder: EncoderFolder, figures: dict[str, Any], problems: list[str] | None = None, warnings: list[str] | None = None
) -> None:
    block = folder.block
    write_record(
        folder.record,
        {
            "encoder": folder.name,
            "version": folder.version,
            "method": block.method,
            "backbone": "n/a" if block.method in WITHOUT_WEIGHTS else block.backbone,
            "work_px": folder.work_px,
            "working_pixel_um": block.working_pixel_um,
            "seed": block.seed,
            "figures": figures,
            "problems": problems or [],
            "warnings": warnings or [],
        },
    )


def _size(encoder: Encoder) -> dict[str, int]:
    return {"parameters": sum(p.numel() for p in encoder.parameters()), "feature_dim": encoder.feature_dim}


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
