"""What a training leaves: the last state, the best one, and `encoder.json`, which is written last."""

import logging
from pathlib import Path
from typing import Any

import torch

from cytonet_pipeline.learning.backbones.encoders import Encoder, save_encoder
from cytonet_pipeline.learning.data.sampling import BLOCK
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.learning.training.checkpoints import backbone_at
from cytonet_pipeline.learning.training.chunking import pieces
from cytonet_pipeline.learning.training.provenance import device_name, environment
from cytonet_pipeline.learning.training.result import Outcome
from cytonet_pipeline.settings import WITHOUT_WEIGHTS
from cytonet_pipeline.store import write_record

_log = logging.getLogger(__name__)


def keep_control(folder: EncoderFolder) -> None:
    """Finish a control that has no weights."""
    _finish(folder, {"figures": {"distinct patches": 0}})


def keep_random(folder: EncoderFolder, encoder: Encoder, seconds: float) -> None:
    """Finish the control with random weights."""
    _save(folder, folder.weights, encoder)
    _finish(folder, {"figures": {**_size(encoder), "steps": 0, "seconds": round(seconds, 1)}})


def keep_trained(folder: EncoderFolder, outcome: Outcome, device: torch.device) -> None:
    """Finish a training: its last state, the best by k-NN, the classifier of `scratch`, and the record."""
    _save(folder, folder.weights, outcome.encoder)
    outcome.objective.save(folder.classifier)
    best = _keep_best(folder, outcome)
    for problem in outcome.problems:
        _log.error("%s: %s", folder.name, problem)
    used = {"device": device_name(device), "torch": torch.__version__}
    _finish(
        folder,
        {
            "figures": {**outcome.figures, **_size(outcome.encoder), **used},
            "problems": list(outcome.problems),
            "warnings": list(outcome.warnings),
            "best": best,
            "runs": outcome.runs,
            "fitting": _fitting(folder, outcome),
            "loading": _loading(folder),
        },
    )


def _keep_best(folder: EncoderFolder, outcome: Outcome) -> dict[str, Any] | None:
    """Write `best.safetensors` from the checkpoint that was kept for it."""
    best, last = outcome.best, outcome.encoder
    if best.step is None:
        return None
    weights = backbone_at(folder.checkpoints, best.step)
    if weights is None:
        _log.warning("%s: the best state, after step %d, is lost", folder.name, best.step)
        return None
    encoder = Encoder(last.name, last.mean, last.std)
    encoder.backbone.load_state_dict(weights)
    figures = {"step": best.step, "knn_accuracy": best.knn_accuracy}
    _save(folder, folder.best, encoder, **figures)
    return {**figures, "file": folder.best.name}


def _save(folder: EncoderFolder, path: Path, encoder: Encoder, **more: Any) -> None:
    block = folder.block
    metadata = {
        "encoder": folder.name,
        "version": folder.version,
        "work_px": folder.work_px,
        "working_pixel_um": block.working_pixel_um,
        "block": block.model_dump(mode="json"),
        **more,
    }
    save_encoder(path, encoder, metadata)


def _fitting(folder: EncoderFolder, outcome: Outcome) -> dict[str, Any]:
    """How a step went through the network, and what batch normalisation saw of it."""
    block = folder.block
    seen = block.batch_size // len(pieces(block.batch_size, outcome.figures["ranks"], 0, block.chunk_size))
    return {
        "activation_checkpointing": block.activation_checkpointing,
        "chunk_size": block.chunk_size,
        "batch_norm_samples": seen,
        "precision": block.precision,
        "compile": block.compile,
    }


def _loading(folder: EncoderFolder) -> dict[str, Any]:
    block = folder.block
    mixed = {"shuffle_buffer": block.shuffle_buffer, "block": BLOCK} if block.loading == "scans" else {}
    return {"from": block.loading, **mixed}


def _finish(folder: EncoderFolder, found: dict[str, Any]) -> None:
    block = folder.block
    record: dict[str, Any] = {
        "encoder": folder.name,
        "version": folder.version,
        "method": block.method,
        "backbone": "n/a" if block.method in WITHOUT_WEIGHTS else block.backbone,
        "work_px": folder.work_px,
        "working_pixel_um": block.working_pixel_um,
        "seed": block.seed,
        "config": {"encoder": block.model_dump(mode="json"), "dataset": folder.dataset.model_dump(mode="json")},
        "seeds": {"weights, order, augmentation": block.seed, "sampling of patches": folder.dataset.seed},
        "init_from": folder.config.get("init_from"),
        "environment": environment(),
        "problems": [],
        "warnings": [],
    }
    write_record(folder.record, {**record, **found})


def _size(encoder: Encoder) -> dict[str, int]:
    return {"parameters": sum(p.numel() for p in encoder.parameters()), "feature_dim": encoder.feature_dim}
