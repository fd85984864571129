"""Activation checkpointing: a block's activations are computed again on the way back instead of being kept.

A plain recomputation moves the running statistics of batch normalisations a second time. Here it writes them into
copies, which are thrown away: gradients and buffers are those of the plain computation.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from cytonet_pipeline.learning.backbones.encoders import SmallBackbone

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Leave the running statistics of a model's batch normalisations as they are, whatever passes through it.

    The layers compute as in training: batch statistics, and the same tensors kept for the way back.
    """
    kept = [(layer, {name: layer._buffers[name] for name in _BUFFERS}) for layer in _normalisations(model)]
    for layer, buffers in kept:
        for name, value in buffers.items():
            layer._buffers[name] = None if value is None else value.clone()
    try:
        yield
    finally:
        for layer, buffers in kept:
            layer._buffers.update(buffers)


def checkpoint_activations(backbone: Any) -> None:
    """Let a backbone keep only what goes from block to block; names and values of its weights stay as they are.

    Parameters
    ----------
    backbone : module
        Of `backbones.encoders`, its normalisations already synchronised: a ResNet of torchvision (the stem and each
        residual block) or a `SmallBackbone` (each convolution with its normalisation).
    """
    if isinstance(backbone, SmallBackbone):
        layers = backbone.layers
        blocks = [layers[first : first + 3] for first in range(0, len(layers), 3)]
        backbone.forward = partial(_through, blocks, backbone.pooled)  # type: ignore[method-assign]
        return
    stem = nn.Sequential(backbone.conv1, backbone.bn1, backbone.relu, backbone.maxpool)
    stages = (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4)
    tail = nn.Sequential(backbone.avgpool, nn.Flatten(1), backbone.fc)
    backbone.forward = partial(_through, [stem, *(block for stage in stages for block in stage)], tail)


def _through(
    blocks: list[nn.Module], tail: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor
) -> torch.Tensor:
    for block in blocks:
        images = _recomputed(block, images) if torch.is_grad_enabled() else block(images)
    return tail(images)


def _recomputed(block: nn.Module, images: torch.Tensor) -> Any:
    # No block draws random numbers: the generators need not be kept.
    return checkpoint(
        block, images, use_reentrant=False, preserve_rng_state=False, context_fn=partial(_contexts, block)
    )


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), frozen_statistics(block)


def _normalisations(model: nn.Module) -> list[nn.Module]:
    return [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
