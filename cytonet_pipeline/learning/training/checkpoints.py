"""Checkpoints: everything that a training run needs to continue as if it had never stopped.

Only safetensors and JSON: a pickle can run code. A checkpoint is written atomically. The last two and the best are
kept, so that a damaged one costs an interval and not the whole run; `cytonet gc` removes those of encoders that have
been collected.
"""

import json
import logging
import zlib
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file
from torch import nn

from cytonet_pipeline.errors import TrainingError
from cytonet_pipeline.store import atomic_file

KEPT = 2
_log = logging.getLogger(__name__)
_DAMAGED = (OSError, ValueError, KeyError, safetensors.SafetensorError)


def save_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    fingerprint: str,
    state: dict[str, Any],
    best: int | None = None,
) -> Path:
    """Write a checkpoint after `step` steps and delete those that are neither the best nor among the last two.

    Parameters
    ----------
    fingerprint : str
        Digest of the configuration and the patches.
    state : dict
        The rest of the loop's state, as JSON values.
    best : int, optional
        Step of the best checkpoint.
    """
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": torch.as_tensor(value) for key, value in values.items()}
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {"step": str(step), "fingerprint": fingerprint, "state": json.dumps(state), "sum": _sum_of(tensors)}
    path = _path(folder, step)
    with atomic_file(path) as temporary:
        save_file(tensors, temporary, metadata)
    # Later ones are damaged, or this run would have continued from them.
    sound = [p for p in _paths(folder) if p <= path]
    kept = {*sound[-KEPT:], *([_path(folder, best)] if best is not None else [])}
    for other in _paths(folder):
        if other not in kept:
            other.unlink(missing_ok=True)
    return path


def restore_checkpoint(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, fingerprint: str
) -> tuple[int, dict[str, Any]]:
    """Load model and optimizer from the last readable checkpoint.

    Returns
    -------
    step, state : int, dict
        Steps done, and the rest of the loop's state; 0 and {} if there is no checkpoint.

    Raises
    ------
    TrainingError
        The checkpoint belongs to another configuration or training set.
    """
    for path in reversed(_paths(folder)):
        try:
            tensors, metadata = _read(path)
        except _DAMAGED as error:
            _log.warning("%s: damaged (%s); using the one before", path, error)
            continue
        if metadata["fingerprint"] != fingerprint:
            raise TrainingError(
                f"{path}: belongs to another configuration or training set.",
                to_fix=f"delete {folder} to start from the beginning, or restore the encoder's folder",
            )
        _load(tensors, model, optimizer)
        return int(metadata["step"]), json.loads(metadata["state"])
    return 0, {}


def weights_at(folder: Path, step: int, part: str) -> dict[str, torch.Tensor] | None:
    """Return weights after `step` steps; None if that checkpoint is missing or damaged.

    Parameters
    ----------
    part : str
        Module of the model: `encoder.backbone` or `head`.
    """
    try:
        tensors, _ = _read(_path(folder, step))
    except _DAMAGED as error:
        _log.warning("%s: not readable (%s)", _path(folder, step), error)
        return None
    prefix = f"model.{part}."
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}.safetensors"


def _paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"))


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safetensors.safe_open(path, "pt") as opened:
        metadata = opened.metadata() or {}
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    if metadata["sum"] != _sum_of(tensors):
        raise ValueError("its checksum does not fit")
    return tensors, metadata


def _sum_of(tensors: dict[str, torch.Tensor]) -> str:
    total = 0
    for name in sorted(tensors):
        content = memoryview(tensors[name].reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
        total = zlib.crc32(content, zlib.crc32(name.encode(), total))
    return f"{total:08x}"


def _load(tensors: dict[str, torch.Tensor], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model.load_state_dict(
        {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    )
    states: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimizer":
            index, _, key = rest.partition(".")
            states.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if value.shape == parameter.shape:
                # In the parameter's layout (channels last): fast kernels want both alike.
                state[key] = torch.empty_like(parameter, requires_grad=False).copy_(value)
