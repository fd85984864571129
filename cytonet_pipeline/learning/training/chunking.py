"""A batch through the network in pieces with the gradient of the whole: cached contrastive gradients (Gao et al. 2021).

Every piece is embedded without graph, the loss of all embeddings gives their gradient, then every piece is embedded
again with graph and its part of the gradient sent back. Batch normalisations see a piece (over all ranks), not the
batch: the gradient is that of the same pieces with graph; it is the full batch's only for layers that look at each
sample by itself. Running statistics count every piece once.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import nn

from cytonet_pipeline.learning.backbones.recomputation import frozen_statistics

# Below so many samples (a piece over all ranks) the statistics of batch normalisation are poor.
ENOUGH_FOR_BATCH_NORM = 256


def pieces(batch_size: int, world_size: int, rank: int, chunk_size: int | None) -> list[np.ndarray]:
    """Cut a rank's part of a batch.

    Parameters
    ----------
    batch_size : int
        Over all ranks.
    chunk_size : int or None
        Samples of a piece at the most; None: one piece. A piece has at least two samples.

    Returns
    -------
    list of (n,) int64 array
        Places in the rank's part; as many pieces on every rank. Strided, because a batch is ordered by brain: every
        piece has samples of all brains.
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
    """Loss and gradients of a batch that goes through the model in pieces.

    Parameters
    ----------
    model : module
        In training mode; under DDP gradients are exchanged with the last piece only.
    images_of : sequence of callables
        Each gives the images of a piece, twice the same.
    loss_of : callable
        Loss of the outputs of all pieces, one after the other.
    autocast : context manager
        What the forward passes run in.

    Returns
    -------
    loss, output : tensors
        Without graph. Gradients have been added to those of the parameters.
    """
    with torch.no_grad(), frozen_statistics(model):
        outputs = [_output(model, images(), autocast) for images in images_of]
    whole = torch.cat(outputs).requires_grad_()
    loss = loss_of(whole)
    (gradient,) = torch.autograd.grad(loss, whole)
    parts = torch.split(gradient, [len(output) for output in outputs])
    for number, (images, part) in enumerate(zip(images_of, parts, strict=True)):
        with _unsynchronised(model, last=number == len(parts) - 1):
            _output(model, images(), autocast).backward(part)  # type: ignore[no-untyped-call]
    return loss.detach(), whole.detach()


def _output(model: nn.Module, images: torch.Tensor, autocast: AbstractContextManager[object]) -> torch.Tensor:
    with autocast:
        output: torch.Tensor = model(images)
    return output if output.dtype == torch.float64 else output.float()


def _unsynchronised(model: nn.Module, *, last: bool) -> AbstractContextManager[object]:
    # Asked by name: a compiled model hands on what it wraps.
    no_sync = getattr(model, "no_sync", None)
    return nullcontext() if last or no_sync is None else no_sync()
