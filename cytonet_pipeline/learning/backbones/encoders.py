"""Encoders: grey patches in, features out. How they are made, and their form on disk.

`encoder.safetensors` holds the backbone alone, for a ResNet under torchvision's names: it loads into
`torchvision.models.resnet50` with a one-channel `conv1` and without `fc`. What else a user needs (normalisation, pixel
size, the experiments entry) is in the file's metadata.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from cytonet_pipeline.errors import CytonetError, TrainingError
from cytonet_pipeline.learning.backbones.backbones import backbone_named
from cytonet_pipeline.store import atomic_file, mark, remedy_of, verified

FILE = "encoder.safetensors"


class Encoder(nn.Module):
    """A backbone behind its input normalisation.

    Parameters
    ----------
    backbone : str
        A name in `backbones.BACKBONES`.
    mean, std : float
        Mean and standard deviation of the training patches' grey values, in 0..1.

    Raises
    ------
    ConfigurationError
        There is no backbone of that name.
    """

    def __init__(self, backbone: str, mean: float = 0.5, std: float = 0.25) -> None:
        super().__init__()
        self.name = backbone
        self.mean, self.std = mean, std
        kind = backbone_named(backbone)
        self.backbone, self.feature_dim = kind.network(), kind.feature_dim

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the features (N, D) of grey images (N, 1, H, W) in 0..1."""
        return self.backbone((images - self.mean) / self.std)


def new_encoder(backbone: str, mean: float, std: float, seed: int) -> Encoder:
    """Make an encoder with random weights, a pure function of `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Encoder(backbone, mean, std)


def projection_head(feature_dim: int, projection_dim: int, seed: int) -> nn.Module:
    """Make the head between features and loss: linear, batch normalisation, ReLU, linear; discarded afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        return nn.Sequential(
            nn.Linear(feature_dim, feature_dim),
            nn.BatchNorm1d(feature_dim),
            nn.ReLU(inplace=True),
            nn.Linear(feature_dim, projection_dim),
        )


def save_encoder(path: Path, encoder: Encoder, metadata: Mapping[str, Any]) -> None:
    """Write the backbone's weights with everything that is needed to use them.

    Parameters
    ----------
    metadata : mapping
        Further entries with JSON values: `working_pixel_um`, `work_px`, the experiments entry, the version.
    """
    known = {"backbone": encoder.name, "mean": encoder.mean, "std": encoder.std, "feature_dim": encoder.feature_dim}
    texts = {key: json.dumps(value, sort_keys=True) for key, value in {**metadata, **known}.items()}
    weights = {name: tensor.contiguous().cpu() for name, tensor in encoder.backbone.state_dict().items()}
    with atomic_file(path) as temporary:
        save_file(weights, temporary, metadata={"format": "pt", **texts})


def read_metadata(path_or_folder: Path | str) -> dict[str, Any]:
    """Read what is stored beside the weights: `backbone`, `mean`, `std`, `feature_dim`, `working_pixel_um`, `work_px`.

    Raises
    ------
    TrainingError, DamagedResult
        There is no encoder, or its file is damaged.
    """
    path = verified(_weights_path(path_or_folder))
    try:
        with safetensors.safe_open(path, "pt") as opened:
            texts = opened.metadata() or {}
        return {key: _value(text) for key, text in texts.items() if key != "format"}
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise _unreadable(path, error) from error


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text  # Written by another program.


def load_encoder(path_or_folder: Path | str) -> Encoder:
    """Read a trained encoder.

    Parameters
    ----------
    path_or_folder : path
        `encoder.safetensors`, or the folder of an encoder's version.

    Returns
    -------
    Encoder
        In eval mode: grey images (N, 1, H, W), float in 0..1 (grey value / 255), to features (N, D).

    Raises
    ------
    TrainingError, DamagedResult
        There is no encoder, or its file is damaged or of a backbone that is not known here.
    """
    path = _weights_path(path_or_folder)
    metadata = read_metadata(path)
    try:
        encoder = Encoder(metadata["backbone"], metadata["mean"], metadata["std"])
        encoder.backbone.load_state_dict(load_file(path))
    except (CytonetError, OSError, KeyError, RuntimeError, safetensors.SafetensorError) as error:
        raise _unreadable(path, error) from error
    return encoder.eval()


def load_backbone(encoder: Encoder, path: Path) -> None:
    """Load a file's weights into an encoder, with the normalisation that belongs to them if the file has one.

    Raises
    ------
    TrainingError, DamagedResult
        The file is damaged or holds the weights of another backbone.
    """
    metadata = read_metadata(path)
    try:
        encoder.backbone.load_state_dict(load_file(path))
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise TrainingError(
            f"{path}: does not hold the weights of a {encoder.name} with one grey channel ({_first_line(error)}).",
            to_fix="name an encoder of the same backbone in init_from",
        ) from error
    encoder.mean, encoder.std = metadata.get("mean", encoder.mean), metadata.get("std", encoder.std)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _weights_path(path_or_folder: Path | str) -> Path:
    path = Path(path_or_folder)
    return path / FILE if path.is_dir() else path


def _unreadable(path: Path, error: Exception) -> TrainingError:
    if isinstance(error, FileNotFoundError):
        return TrainingError(f"{path}: missing.", to_fix=remedy_of(path))
    fault = error.what.rstrip(".") if isinstance(error, CytonetError) else _first_line(error)
    if not isinstance(error, (CytonetError, OSError)):
        # Nothing about this machine or this version: the file itself is of no use.
        mark(path, fault)
    return TrainingError(f"{path}: not a readable encoder ({fault}).", to_fix=remedy_of(path))
