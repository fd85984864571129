"""Write what a training run leaves: the last state, the best one, and finally `encoder.json`."""

import logging
from pathlib import Path
from typing import Any

import torch

from cytonet_pipeline.errors import TrainingError
from cytonet_pipeline.learning.backbones.encoders import Encoder, save_encoder
from cytonet_pipeline.learning.data.sampling import BLOCK
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.learning.training.checkpoints import weights_at
from cytonet_pipeline.learning.training.chunking import pieces
from cytonet_pipeline.learning.training.provenance import device_name, environment
from cytonet_pipeline.learning.training.result import TrainingResult
from cytonet_pipeline.settings import WITHOUT_WEIGHTS
from cytonet_pipeline.store import write_record

_log = logging.getLogger(__name__)


def record_control(folder: EncoderFolder) -> None:
    """Record a control that has no weights."""
    _write_record(folder, {"figures": {"distinct patches": 0}})


def record_untrained(folder: EncoderFolder, encoder: Encoder, seconds: float) -> None:
    """Save and record an encoder that no step of ours has changed: random weights, or those of a local file."""
    _save(folder, folder.weights, encoder)
    _write_record(folder, {"figures": {**_size(encoder), "steps": 0, "seconds": round(seconds, 1)}})


def record_trained(folder: EncoderFolder, result: TrainingResult, device: torch.device) -> None:
    """Save the state that is evaluated, the best by k-NN and the classifier of `scratch`, and record the training run.

    Raises
    ------
    TrainingError
        An encoder of a few labels is evaluated in its best state, and the checkpoint of that is lost.
    """
    best = _save_best(folder, result)
    stopped_after = _return_to_best(folder, result) if folder.block.labels_per_area is not None else None
    _save(folder, folder.weights, result.encoder)
    result.objective.save(folder.classifier)
    for problem in result.problems:
        _log.log(logging.WARNING if folder.block.sees_labels else logging.ERROR, "%s: %s", folder.name, problem)
    machine = {"device": device_name(device), "torch": torch.__version__}
    _write_record(
        folder,
        {
            "figures": {**result.figures, **_size(result.encoder), **machine},
            "problems": list(result.problems),
            "warnings": list(result.warnings),
            "best": best,
            **({} if stopped_after is None else {"stopped_after": stopped_after}),
            "runs": result.runs,
            "fitting": _fitting(folder, result),
            "loading": _loading(folder),
        },
    )


def _save_best(folder: EncoderFolder, result: TrainingResult) -> dict[str, Any] | None:
    """Write `best.safetensors` from the checkpoint that was kept for it."""
    best, last = result.best, result.encoder
    if best.step is None:
        return None
    weights = weights_at(folder.checkpoints, best.step, "encoder.backbone")
    if weights is None:
        _log.warning("%s: the best state, after step %d, is lost", folder.name, best.step)
        return None
    encoder = Encoder(last.name, last.mean, last.std)
    encoder.backbone.load_state_dict(weights)
    figures = {"step": best.step, "knn_accuracy": best.knn_accuracy}
    _save(folder, folder.best, encoder, **figures)
    return {**figures, "file": folder.best.name}


def _return_to_best(folder: EncoderFolder, result: TrainingResult) -> int:
    """Give encoder and head the weights of the best step on validation sections; return the step.

    Over a few labels training goes on long after it has learned them by heart. Without annotated validation sections
    nothing can be chosen, and the last state stays.
    """
    step = result.best.step
    if step is None or step == folder.block.steps:
        return folder.block.steps
    for part, module in (("encoder.backbone", result.encoder.backbone), ("head", result.objective.head)):
        weights = weights_at(folder.checkpoints, step, part)
        if weights is None:
            raise TrainingError(
                f"{folder.name}: the state after step {step}, the best on validation sections, is lost.",
                looked_for=str(folder.checkpoints),
                to_fix="delete the encoder's folder and train it again",
            )
        module.load_state_dict(weights)
    _log.info("%s: evaluated as it was after step %d, the best on validation sections", folder.name, step)
    return step


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


def _fitting(folder: EncoderFolder, result: TrainingResult) -> dict[str, Any]:
    """Return how a step passed through the network, and how much of it batch normalisation saw."""
    block = folder.block
    samples = block.batch_size // len(pieces(block.batch_size, result.figures["ranks"], 0, block.chunk_size))
    return {
        "activation_checkpointing": block.activation_checkpointing,
        "chunk_size": block.chunk_size,
        "batch_norm_samples": samples,
        "precision": block.precision,
        "compile": block.compile,
    }


def _loading(folder: EncoderFolder) -> dict[str, Any]:
    block = folder.block
    mixed = {"shuffle_buffer": block.shuffle_buffer, "block": BLOCK} if block.loading == "scans" else {}
    return {"from": block.loading, **mixed}


def _write_record(folder: EncoderFolder, content: dict[str, Any]) -> None:
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
    write_record(folder.record, {**record, **content})


def _size(encoder: Encoder) -> dict[str, int]:
    return {"parameters": sum(p.numel() for p in encoder.parameters()), "feature_dim": encoder.feature_dim}
