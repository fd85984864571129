"""Encoders: grey patches in, features out. Their making, and their form on disk.

`encoder.safetensors` holds the backbone alone, under torchvision's names for a ResNet: it loads into
`torchvision.models.resnet50` with a one-channel `conv1` and without `fc`. What else a user needs (normalisation, pixel
size, the experiments entry) stands in the file's metadata.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from cytonet_pipeline.errors import TrainingError
from cytonet_pipeline.learning.backbones.torchvision_import import torchvision_models
from cytonet_pipeline.store import atomic_file

FILE = "encoder.safetensors"


class Encoder(nn.Module):
    """A backbone behind its input normalisation.

    Parameters
    ----------
    backbone : str
        `small`, `resnet50` or `resnet101`.
    mean, std : float
        Of the training patches' grey values, in 0..1.
    """

    def __init__(self, backbone: str, mean: float = 0.5, std: float = 0.25) -> None:
        super().__init__()
        self.name = backbone
        self.mean, self.std = mean, std
        self.backbone, self.feature_dim = _backbone(backbone)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features (N, D) of grey images (N, 1, H, W) in 0..1."""
        return self.backbone((images - self.mean) / self.std)


def new_encoder(backbone: str, mean: float, std: float, seed: int) -> Encoder:
    """An encoder with random weights, a pure function of `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Encoder(backbone, mean, std)


def projection_head(feature_dim: int, projection_dim: int, seed: int) -> nn.Module:
    """Linear, batch normalisation, ReLU, Linear: between features and loss, discarded afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        return nn.Sequential(
            nn.Linear(feature_dim, feature_dim),
            nn.BatchNorm1d(feature_dim),
            nn.ReLU(inplace=True),
            nn.Linear(feature_dim, projection_dim),
        )


def save_encoder(path: Path, encoder: Encoder, metadata: Mapping[str, Any]) -> None:
    """Write the backbone's weights, with everything that is needed to use them.

    Parameters
    ----------
    metadata : mapping
        Further entries, JSON values: `working_pixel_um`, `work_px`, the experiments entry, the version.
    """
    known = {"backbone": encoder.name, "mean": encoder.mean, "std": encoder.std, "feature_dim": encoder.feature_dim}
    texts = {key: json.dumps(value, sort_keys=True) for key, value in {**metadata, **known}.items()}
    weights = {name: tensor.contiguous().cpu() for name, tensor in encoder.backbone.state_dict().items()}
    with atomic_file(path) as temporary:
        save_file(weights, temporary, metadata={"format": "pt", **texts})


def read_metadata(path_or_folder: Path | str) -> dict[str, Any]:
    """What stands beside the weights: `backbone`, `mean`, `std`, `feature_dim`, `working_pixel_um`, `work_px`.

    Raises
    ------
    TrainingError
        There is no encoder, or its file is damaged.
    """
    path = _weights_path(path_or_folder)
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
        return text  # Of somebody else's file.


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
    TrainingError
        There is no encoder, or its file is damaged.
    """
    path = _weights_path(path_or_folder)
    metadata = read_metadata(path)
    try:
        encoder = Encoder(metadata["backbone"], metadata["mean"], metadata["std"])
        encoder.backbone.load_state_dict(load_file(path))
    except (KeyError, RuntimeError, safetensors.SafetensorError) as error:
        raise _unreadable(path, error) from error
    return encoder.eval()


def load_backbone(encoder: Encoder, path: Path) -> None:
    """Put a file's weights into an encoder, and its normalisation, where the file says one: it goes with the weights.

    Raises
    ------
    TrainingError
        The file is damaged or has another backbone's weights.
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
    reason = "not there" if isinstance(error, FileNotFoundError) else f"not a readable encoder ({error})"
    return TrainingError(f"{path}: {reason}.", to_fix="train it again: cytonet run --encoders NAME")


def _backbone(name: str) -> tuple[nn.Module, int]:
    if name == "small":
        return SmallBackbone(), SmallBackbone.feature_dim
    network = getattr(torchvision_models(), name)(weights=None)
    network.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    feature_dim = network.fc.in_features
    network.fc = nn.Identity()
    return network, feature_dim


class SmallBackbone(nn.Module):
    """Seven convolutions for two CPU cores and inputs of about 32 px.

    The first one halves the resolution: what comes after costs a quarter.
    """

    widths = ((16, 2), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 1))
    feature_dim = 2 * 128

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for width, stride in self.widths:
            layers += [
                nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            before = width
        self.layers = nn.Sequential(*layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Mean and maximum of each of the last maps: (N, 256)."""
        return self.pooled(self.layers(images))

    @staticmethod
    def pooled(maps: torch.Tensor) -> torch.Tensor:
        """Mean and maximum of maps (N, C, H, W): (N, 2 C)."""
        return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)
