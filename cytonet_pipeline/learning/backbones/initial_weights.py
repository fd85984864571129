"""Encoders before the first step: normalised to the data, with random weights or those of another encoder.

The random control ends here: its weights stay random, behind batch normalisation that has seen the data. With the
initial running statistics (mean 0, variance 1) its features would be worse than they need to be, and the control too
easy to beat.
"""

import numpy as np
import pandas as pd
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from cytonet_pipeline.errors import TrainingError
from cytonet_pipeline.learning.backbones.encoders import Encoder, load_backbone, new_encoder
from cytonet_pipeline.learning.backbones.external import load_external
from cytonet_pipeline.learning.data.augmentation import central_crop
from cytonet_pipeline.learning.data.sources import PatchSource
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.store import digest_file

# Patches that the normalisation is computed from; fewer if they are large.
_SAMPLE = 4096
_SMALLEST_SAMPLE = 64
_SAMPLE_PIXELS = 1 << 28
_READ_AT_ONCE = 64
# Batches that the random control's normalisation sees; smaller ones if patches are large.
_BATCHES = 16
_BATCH_SIZE = 512
_BATCH_PIXELS = 1 << 27


def initial_encoder(folder: EncoderFolder, source: PatchSource) -> Encoder:
    """Make the encoder that training starts from: with random weights, or with those that `init_from` names.

    Raises
    ------
    TrainingError
        The weights to continue from are not those that the version was named after, or belong to another backbone.
    """
    encoder = _with_random_weights(folder, source)
    if folder.config.get("init_from") is not None:
        _require_given_weights(folder)
        load_backbone(encoder, folder.first)
    return encoder


def pretrained_encoder(folder: EncoderFolder) -> Encoder:
    """Make the encoder of `method: pretrained`, in eval mode: a library's network with the weights of a local file.

    Raises
    ------
    TrainingError
        The file is not the one that the version was named after, cannot be read, or belongs to another network.
    """
    # The network normalises its input itself.
    encoder = Encoder(folder.block.backbone, mean=0.0, std=1.0)
    _require_given_weights(folder)
    load_external(folder.block.backbone, encoder.backbone, folder.first)
    return encoder.eval()


def random_control(folder: EncoderFolder, source: PatchSource, device: torch.device) -> Encoder:
    """Make the control without training, in eval mode: random weights, with batch statistics of the data.

    The running statistics are plain averages over the first training patches by `order`.
    """
    patches, work_px = folder.patches, folder.work_px
    encoder = _with_random_weights(folder, source).to(device)
    for layer in encoder.modules():
        if isinstance(layer, _BatchNorm):
            layer.momentum = None
    batch_size = max(2, min(_BATCH_SIZE, _BATCH_PIXELS // work_px**2))
    rows = _first_by_order(patches, _BATCHES * batch_size)
    encoder.train()
    with torch.no_grad():
        for part in np.array_split(rows, max(1, len(rows) // batch_size)):
            encoder(central_crop(torch.from_numpy(source.read(part)).to(device), work_px))
    return encoder.eval()


def grey_statistics(source: PatchSource, patches: pd.DataFrame, work_px: int) -> tuple[float, float]:
    """Compute mean and standard deviation of grey values, in 0..1, of the first few thousand patches by `order`."""
    rows = _first_by_order(patches, max(_SMALLEST_SAMPLE, min(_SAMPLE, _SAMPLE_PIXELS // source.edge_px**2)))
    counts = np.zeros(256, dtype=np.int64)
    for start in range(0, len(rows), _READ_AT_ONCE):
        images = source.read(rows[start : start + _READ_AT_ONCE])
        edge = (images.shape[-1] - work_px) // 2
        crop = images[:, edge : edge + work_px, edge : edge + work_px]
        counts += np.bincount(crop.ravel(), minlength=256)
    values = np.arange(256) / 255
    mean = float(counts @ values / counts.sum())
    return mean, max(float(np.sqrt(counts @ (values - mean) ** 2 / counts.sum())), 1e-3)


def _require_given_weights(folder: EncoderFolder) -> None:
    given = folder.config["init_from"]
    if not folder.first.exists() or digest_file(folder.first) != given["digest"]:
        raise TrainingError(
            f"{folder.first}: not the weights that this version continues from.",
            looked_for=str(given["path"]),
            to_fix=f"delete {folder.path} and materialise training_set and encoder again",
        )


def _with_random_weights(folder: EncoderFolder, source: PatchSource) -> Encoder:
    mean, std = grey_statistics(source, folder.patches, folder.work_px)
    return new_encoder(folder.block.backbone, mean, std, folder.block.seed)


def _first_by_order(patches: pd.DataFrame, n: int) -> np.ndarray:
    """Return rows of the first `n` training patches by `order`: the same sample on every rank."""
    rows = np.flatnonzero((patches["role"] == "train").to_numpy())
    return rows[np.argsort(patches["order"].to_numpy()[rows], kind="stable")[:n]]
