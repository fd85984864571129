"""Activation checkpointing: activations inside a block are recomputed in the backward pass instead of being kept.

A plain recomputation would update the running statistics of batch normalisation a second time. Here it updates copies,
which are thrown away: gradients and buffers equal those of the plain computation.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from cytonet_pipeline.learning.backbones.backbones import backbone_named
from cytonet_pipeline.learning.backbones.encoders import Encoder

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Keep the running statistics of a model's batch normalisation as they are, whatever passes through it.

    The layers compute as in training: with batch statistics, and keeping the same tensors for the backward pass.
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


def checkpoint_activations(encoder: Encoder) -> None:
    """Make an encoder keep only what passes from block to block; names and values of its weights stay as they are.

    Parameters
    ----------
    encoder : Encoder
        With its batch normalisation already synchronised, where there are several ranks.
    """
    backbone, network = backbone_named(encoder.name), encoder.backbone
    forward = partial(_through, backbone.blocks(network), backbone.head(network))
    network.forward = forward


def _through(
    blocks: list[nn.Module], head: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor
) -> torch.Tensor:
    maps = images
    for block in blocks:
        maps = _checkpointed(block, maps) if torch.is_grad_enabled() else block(maps)
    return head(maps)


def _checkpointed(block: nn.Module, maps: torch.Tensor) -> Any:
    # No block draws random numbers: the generators need not be kept.
    return checkpoint(block, maps, use_reentrant=False, preserve_rng_state=False, context_fn=partial(_contexts, block))


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), frozen_statistics(block)


def _normalisations(model: nn.Module) -> list[nn.Module]:
    return [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
