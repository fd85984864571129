"""The control without training: random weights behind batch normalisations that know the data.

With the initial running statistics (mean 0, variance 1) random features would be worse than they need to be, and the
control too easy to beat.
"""

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from cytonet_pipeline.learning.augmentation import central_crop
from cytonet_pipeline.learning.encoders import Encoder, new_encoder
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.learning.grey_values import grey_statistics
from cytonet_pipeline.learning.packing import PackedPatches

_BATCHES = 16
_BATCH_SIZE = 512


def random_encoder(folder: EncoderFolder, pack: PackedPatches, device: torch.device) -> Encoder:
    """Random weights; BatchNorm statistics are plain averages over the first training patches by `order`."""
    patches = folder.patches
    encoder = new_encoder(folder.block.backbone, *grey_statistics(pack, patches, folder.work_px), folder.block.seed).to(
        device
    )
    for layer in encoder.modules():
        if isinstance(layer, _BatchNorm):
            layer.momentum = None
    rows = np.flatnonzero((patches["role"] == "train").to_numpy())
    rows = rows[np.argsort(patches["order"].to_numpy()[rows], kind="stable")]
    encoder.train()
    with torch.no_grad():
        for part in np.array_split(rows[: _BATCHES * _BATCH_SIZE], max(1, min(_BATCHES, len(rows) // _BATCH_SIZE))):
            encoder(central_crop(torch.from_numpy(pack.read(part)).to(device), folder.work_px))
    return encoder.eval()
