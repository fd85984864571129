"""Cost of a training step on a GPU, found by walking through it on PyTorch's meta device: shapes without numbers.

Every tensor that the walk makes is counted from its creation to its end, so that the sum includes what autograd keeps,
what is computed again and what the backward pass needs for a moment. Workspaces of kernels are not included.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakIdKeyDictionary

from cytonet_pipeline.learning.backbones.encoders import Encoder, projection_head
from cytonet_pipeline.learning.backbones.recomputation import checkpoint_activations
from cytonet_pipeline.learning.data.augmentation import Augmentation, margin_px
from cytonet_pipeline.settings import AugmentationBlock


@dataclass(frozen=True)
class PassCost:
    """Cost of the forward and backward pass of some images through an encoder.

    Attributes
    ----------
    kept_bytes : int
        Held between forward and backward pass, beside the weights.
    peak_bytes : int
        The most that is held at a time.
    flops, forward_flops : int
        Of both passes, including what is computed again; of the forward pass alone. A multiplication with addition
        counts as two.
    """

    kept_bytes: int
    peak_bytes: int
    flops: int
    forward_flops: int


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that were made inside and are still alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._seen: Any = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it made; views and in-place results have a storage that is known."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:
            return
        self._seen[storage] = True
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._subtract, storage.nbytes())

    def _subtract(self, n_bytes: int) -> None:
        self.now -= n_bytes


@lru_cache(maxsize=256)
def pass_cost(backbone: str, images: int, work_px: int, *, bf16: bool, recomputed: bool) -> PassCost:
    """Compute the cost of a forward and backward pass.

    Parameters
    ----------
    backbone : str
        A name in `backbones.BACKBONES`.
    images, work_px : int
        Images per GPU at a time, and their edge.
    bf16 : bool
        Activations in bfloat16, as under autocast; else float32.
    recomputed : bool
        With activation checkpointing.
    """
    encoder, batch = _on_meta(backbone, images, work_px, bf16=bf16, recomputed=recomputed)
    with _count_beside(encoder, batch) as live:
        features = encoder(batch)
        kept = live.now
        features.backward(torch.empty_like(features))
    flops, forward = _flops(backbone, work_px, recomputed=recomputed)
    return PassCost(kept, live.peak, images * flops, images * forward)


@lru_cache(maxsize=64)
def _flops(backbone: str, work_px: int, *, recomputed: bool) -> tuple[int, int]:
    """Count the operations per image, of both passes and of the forward pass alone."""
    encoder, batch = _on_meta(backbone, 1, work_px, bf16=False, recomputed=recomputed)
    # Apart from the count of bytes: the counter holds on to what it has seen.
    with FlopCounterMode(display=False) as counter:
        features = encoder(batch)
        forward = counter.get_total_flops()
        features.backward(torch.empty_like(features))
    return counter.get_total_flops(), forward


def _on_meta(backbone: str, images: int, work_px: int, *, bf16: bool, recomputed: bool) -> tuple[Encoder, torch.Tensor]:
    dtype = torch.bfloat16 if bf16 else torch.float32
    with torch.device("meta"):
        encoder = Encoder(backbone).train().to(dtype)
        if recomputed:
            checkpoint_activations(encoder)
        batch = torch.empty(images, 1, work_px, work_px, dtype=dtype)
    return encoder.to(memory_format=torch.channels_last), batch  # type: ignore[call-overload]


@lru_cache(maxsize=64)
def augmentation_bytes(block: AugmentationBlock, images: int, work_px: int) -> int:
    """Compute the most bytes that augmentation holds at a time, its output included."""
    edge = margin_px(work_px, block)
    # Noise is a slice of one long row, drawn on the CPU: its size is known without drawing it.
    quiet = Augmentation(block.model_copy(update={"noise": 0.0}), work_px, 0, torch.device("meta"))
    patches = torch.empty(images, edge, edge, dtype=torch.uint8, device="meta")
    with LiveBytes() as live:
        quiet(patches, np.zeros(images, dtype=np.uint64))
    return live.peak + (4 * images * work_px**2 if block.noise else 0)


def weights_of(backbone: str, projection_dim: int) -> int:
    """Count the weights of an encoder with its projection head."""
    with torch.device("meta"):
        encoder = Encoder(backbone)
        head = projection_head(encoder.feature_dim, projection_dim, seed=0)
    return sum(p.numel() for module in (encoder, head) for p in module.parameters())


@contextmanager
def _count_beside(module: nn.Module, *tensors: torch.Tensor) -> Iterator[LiveBytes]:
    """Count what is made besides a module's weights and buffers, and some tensors."""
    live = LiveBytes()
    for tensor in (*module.parameters(), *module.buffers(), *tensors):
        live._seen[tensor.untyped_storage()] = True
    with live:
        yield live
