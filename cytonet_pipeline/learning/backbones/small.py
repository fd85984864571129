"""The small network of our own, for two CPU cores and inputs of about 32 px."""

import torch
from torch import nn


class SmallBackbone(nn.Module):
    """Seven convolutions; the first one halves the resolution, so that the others cost a quarter."""

    widths = ((16, 2), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 1))

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
        """Return the mean and maximum of each of the last maps: (N, 256)."""
        return self.pooled(self.layers(images))

    @staticmethod
    def pooled(maps: torch.Tensor) -> torch.Tensor:
        """Return the mean and maximum of maps (N, C, H, W): (N, 2 C)."""
        return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)
