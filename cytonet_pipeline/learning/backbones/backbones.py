"""Backbones: the networks between grey patches and features.

`BACKBONES` lists them under the names that `backbone:` takes in an experiments file. A new one is a class here and its
place in the list: encoders, activation checkpointing, export and `cytonet plan` know of a network only what `Backbone`
says.

Importing this module does not import torch, because experiments files are checked where torch is not loaded; nor
torchvision, which the small network does not need.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from cytonet_pipeline.learning.backbones.external import LIBRARIES, External
from cytonet_pipeline.learning.registry import entry_named

if TYPE_CHECKING:
    import torch
    from torch import nn


class Backbone(Protocol):
    """One kind of network: how to make it, and how it is put together."""

    @property
    def feature_dim(self) -> int:
        """Number of features D."""
        ...

    def network(self) -> nn.Module:
        """Make a network from images (N, 1, H, W) to features (N, D), with weights from torch's global generator.

        Its state dict, names included, is what `encoder.safetensors` holds. In training mode it draws no random
        numbers: a resumed training run and activation checkpointing rely on that.
        """
        ...

    def blocks(self, network: nn.Module) -> list[nn.Module]:
        """Return the stem and the blocks of such a network, in order; each takes what the one before returns.

        Activation checkpointing keeps what passes from one to the next, and computes the rest again.
        """
        ...

    def head(self, network: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return what turns the last block's maps into features."""
        ...


class Small:
    """`SmallBackbone`, each of whose convolutions is a block with its normalisation."""

    feature_dim = 256

    def network(self) -> nn.Module:
        """Make the network."""
        from cytonet_pipeline.learning.backbones.small import SmallBackbone

        return SmallBackbone()

    def blocks(self, network: Any) -> list[nn.Module]:
        """Return convolution, normalisation and rectifier, seven times."""
        return [network.layers[first : first + 3] for first in range(0, len(network.layers), 3)]

    def head(self, network: Any) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the pooling."""
        return network.pooled


class ResNet:
    """A bottleneck ResNet of torchvision with one grey channel and without its classifier.

    Parameters
    ----------
    name : str
        Of the function in `torchvision.models`.
    """

    feature_dim = 2048

    def __init__(self, name: str) -> None:
        self._name = name

    def network(self) -> nn.Module:
        """Make the network; its weights have torchvision's names."""
        from torch import nn

        from cytonet_pipeline.learning.backbones.torchvision_import import torchvision_models

        network = getattr(torchvision_models(), self._name)(weights=None)
        network.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        network.fc = nn.Identity()
        return network

    def blocks(self, network: Any) -> list[nn.Module]:
        """Return the stem and each residual block."""
        from torch import nn

        stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
        return [stem, *network.layer1, *network.layer2, *network.layer3, *network.layer4]

    def head(self, network: Any) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the global average."""
        from torch import nn

        return nn.Sequential(network.avgpool, nn.Flatten(1), network.fc)


BACKBONES: dict[str, Backbone] = {
    "small": Small(),
    "resnet50": ResNet("resnet50"),
    "resnet101": ResNet("resnet101"),
}


def backbone_named(name: str) -> Backbone:
    """Return a backbone; a `ConfigurationError` lists the known ones if there is none of that name."""
    if name.startswith(LIBRARIES):
        return External(name)
    return entry_named(name, BACKBONES, "backbone")
