"""Compute the gradient of a whole batch piece by piece: cached contrastive gradients (Gao et al. 2021).

Every piece is embedded without a graph, the loss of all embeddings gives their gradient, then every piece is embedded
again with a graph, and its part of the gradient back-propagated. Batch normalisations see a piece (over all
ranks), not the batch: only for layers that treat each sample by itself is the gradient that of the full batch. Running
statistics count every piece once.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import nn

from cytonet_pipeline.learning.backbones.recomputation import frozen_statistics

# With fewer samples (per piece, over all ranks) the statistics of batch normalisation are poor.
ENOUGH_FOR_BATCH_NORM = 256


def pieces(batch_size: int, world_size: int, rank: int, chunk_size: int | None) -> list[np.ndarray]:
    """Cut a rank's part of a batch into pieces.

    Parameters
    ----------
    batch_size : int
        Over all ranks.
    chunk_size : int or None
        Largest number of samples per piece; None: one piece. A piece has at least two samples.

    Returns
    -------
    list of (n,) int64 array
        Places in the rank's part; the same number of pieces on every rank. Strided, because a batch is ordered by
        brain: every piece has samples of all brains.
    """
    own = len(range(rank, batch_size, world_size))
    if chunk_size is None:
        return [np.arange(own)]
    largest, smallest = -(-batch_size // world_size), batch_size // world_size
    count = max(1, min(-(-largest // chunk_size), smallest // 2))
    return [np.arange(first, own, count) for first in range(count)]


def chunked_backward(
    model: nn.Module,
    images_of: Sequence[Callable[[], torch.Tensor]],
    loss_of: Callable[[torch.Tensor], torch.Tensor],
    autocast: AbstractContextManager[object],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute loss and gradients of a batch that passes through the model in pieces.

    Parameters
    ----------
    model : module
        In training mode; under DDP gradients are exchanged with the last piece only.
    images_of : sequence of callables
        Each returns the images of a piece, the same at both calls.
    loss_of : callable
        Loss of the outputs of all pieces, concatenated.
    autocast : context manager
        Context of the forward passes.

    Returns
    -------
    loss, output : tensors
        Without a graph. Gradients have been added to those of the parameters.
    """
    with torch.no_grad(), frozen_statistics(model):
        outputs = [_output(model, images(), autocast) for images in images_of]
    whole = torch.cat(outputs).requires_grad_()
    loss = loss_of(whole)
    (gradient,) = torch.autograd.grad(loss, whole)
    parts = torch.split(gradient, [len(output) for output in outputs])
    for number, (images, part) in enumerate(zip(images_of, parts, strict=True)):
        with _gradients_exchanged(model, now=number == len(parts) - 1):
            _output(model, images(), autocast).backward(part)  # type: ignore[no-untyped-call]
    return loss.detach(), whole.detach()


def _output(model: nn.Module, images: torch.Tensor, autocast: AbstractContextManager[object]) -> torch.Tensor:
    with autocast:
        output: torch.Tensor = model(images)
    return output if output.dtype == torch.float64 else output.float()


def _gradients_exchanged(model: nn.Module, *, now: bool) -> AbstractContextManager[object]:
    # By name: a compiled model forwards the attributes of the model that it wraps.
    no_sync = getattr(model, "no_sync", None)
    return nullcontext() if now or no_sync is None else no_sync()
