"""Grey patches for networks that were trained on photographs."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from cytonet_pipeline.learning.backbones.external import NetworkInput


class GreyInput(nn.Module):
    """A network behind its own input: resized, the grey value in every channel, normalised as in its training.

    Parameters
    ----------
    network : Module
        Takes images (N, C, H, W).
    seen : NetworkInput
        H and W of its input, and the normalisation of the C channels. Larger patches are reduced with an anti-aliasing
        filter.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: Any, seen: NetworkInput) -> None:
        super().__init__()
        self.network, self.seen = network, seen
        # Facts about the network, and not weights: they do not go into its file.
        self.register_buffer("mean", torch.tensor(seen.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(seen.std)[:, None, None], persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the features (N, D) of grey images (N, 1, h, w) in 0..1."""
        size = self.seen.size
        if tuple(images.shape[-2:]) != size:
            images = functional.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
        features: torch.Tensor = self.network((images - self.mean) / self.std)
        return features
