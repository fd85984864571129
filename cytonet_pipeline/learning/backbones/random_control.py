"""The control without training: random weights behind batch normalisations that know the data.

With the initial running statistics (mean 0, variance 1) random features would be worse than they need to be, and the
control too easy to beat.
"""

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from cytonet_pipeline.learning.backbones.encoders import Encoder, new_encoder
from cytonet_pipeline.learning.backbones.grey_values import first_by_order, grey_statistics
from cytonet_pipeline.learning.data.augmentation import central_crop
from cytonet_pipeline.learning.data.sources import PatchSource
from cytonet_pipeline.learning.folder import EncoderFolder

_BATCHES = 16
_BATCH_SIZE = 512
# Large patches go through the network a few at a time.
_BATCH_PIXELS = 1 << 27


def random_encoder(folder: EncoderFolder, source: PatchSource, device: torch.device) -> Encoder:
    """Random weights; BatchNorm statistics are plain averages over the first training patches by `order`."""
    patches, work_px = folder.patches, folder.work_px
    statistics = grey_statistics(source, patches, work_px)
    encoder = new_encoder(folder.block.backbone, *statistics, folder.block.seed).to(device)
    for layer in encoder.modules():
        if isinstance(layer, _BatchNorm):
            layer.momentum = None
    batch_size = max(2, min(_BATCH_SIZE, _BATCH_PIXELS // work_px**2))
    rows = first_by_order(patches, _BATCHES * batch_size)
    encoder.train()
    with torch.no_grad():
        for part in np.array_split(rows, max(1, len(rows) // batch_size)):
            encoder(central_crop(torch.from_numpy(source.read(part)).to(device), work_px))
    return encoder.eval()
