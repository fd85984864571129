"""Batch normalisation across ranks that also works on CPUs.

`torch.nn.SyncBatchNorm` refuses CPU tensors; on CUDA it is faster than this one and is taken there.
"""

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cytonet_pipeline.learning.distributed import summed_with_gradient


class SyncedBatchNorm(_BatchNorm):
    """Batch normalisation over the samples of all ranks, which may hold different numbers of them."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.dim()}")

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise (B, C, …); in training with the mean and variance of all ranks' samples."""
        if not self.training:
            return super().forward(input)
        input = input.to(self.weight.dtype)
        axes = [axis for axis in range(input.dim()) if axis != 1]
        shape = [1, -1] + [1] * (input.dim() - 2)
        own = input.new_full((1,), input.numel() / input.shape[1])
        sums = summed_with_gradient(torch.cat([input.sum(axes), own]))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = input - mean.view(shape)
        # A second exchange instead of E[x²] - E[x]², which cancels where the mean is large.
        variance = summed_with_gradient((centred**2).sum(axes)) / count
        self._track(mean.detach(), variance.detach(), count)
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return centred * scale.view(shape) + self.bias.view(shape)

    def _track(self, mean: torch.Tensor, variance: torch.Tensor, count: torch.Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        momentum = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * count / (count - 1), momentum)


def synchronised(model: nn.Module, device: torch.device) -> nn.Module:
    """Let every batch normalisation of a model look across ranks."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    for name, child in model.named_children():
        setattr(model, name, _of_all_ranks(child) if isinstance(child, _BatchNorm) else synchronised(child, device))
    return model


def _of_all_ranks(layer: Any) -> SyncedBatchNorm:
    place = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    synced = SyncedBatchNorm(layer.num_features, layer.eps, layer.momentum, **place)
    synced.load_state_dict(layer.state_dict())
    return synced
