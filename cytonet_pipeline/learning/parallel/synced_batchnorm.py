"""Batch normalisation across ranks on CPUs, where `torch.nn.SyncBatchNorm` refuses tensors.

GPUs take torch's, which is faster.
"""

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from cytonet_pipeline.learning.parallel.distributed import gathered, summed


class SyncedBatchNorm(_BatchNorm):
    """Batch normalisation over the samples of all ranks, which may hold different numbers of them."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.dim()}")

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise (B, C, …), in training with the mean and variance of the samples of all ranks."""
        if not self.training:
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            wide = input.to(self.weight.dtype)
            output, mean, variance, count = _Normalise.apply(wide, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
        self._track(mean, variance, count)
        return output.to(input.dtype)

    def _track(self, mean: torch.Tensor, variance: torch.Tensor, count: torch.Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        momentum = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * count / (count - 1), momentum)


class _Normalise(torch.autograd.Function):
    """One collective in the forward pass (mean, squares, count), one in the backward pass (two sums)."""

    @staticmethod
    def forward(
        ctx: Any, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        channels = input.shape[1]
        # Joined as Chan, Golub & LeVeque (1979) do: E[x²] - E[x]² would cancel where the mean is large.
        of_ranks = gathered(torch.cat(_statistics(input)))
        means, variances, counts = of_ranks[:, :channels], of_ranks[:, channels:-1], of_ranks[:, -1:]
        count = counts.sum()
        mean = (means * counts).sum(0) / count
        variance = ((variances + (means - mean) ** 2) * counts).sum(0) / count
        mean, variance, count = mean.to(input.dtype), variance.to(input.dtype), count.to(input.dtype)
        ctx.save_for_backward(input, weight, mean, variance, count)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, count)
        output = functional.batch_norm(input, mean, variance, weight, bias, training=False, eps=eps)
        return output, mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        input, weight, mean, variance, count = ctx.saved_tensors
        _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, input, weight, mean, variance, None, None, False, ctx.eps, [False, True, True]
        )
        # Own sums are the gradients of weight and bias, which DDP averages; those of all ranks reach every input.
        along, constant = summed(torch.stack([of_weight, of_bias])) / count
        # (gradient - constant - along · normalised) · weight / std, the normalised input by the fused kernel again.
        scale = weight * torch.rsqrt(variance + ctx.eps)
        of_input = functional.batch_norm(
            input, mean, variance, -along * scale, -constant * scale, training=False, eps=ctx.eps
        )
        of_input.addcmul_(gradient, scale.view([1, -1] + [1] * (input.dim() - 2)))
        return of_input, of_weight, of_bias, None


def _statistics(input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return mean and variance (C,) of each channel of (B, C, …), and the number of samples (1,), in float64.

    Two passes, each summing per image first: `torch.var_mean` takes fifteen times as long on channels-last tensors,
    and `torch.batch_norm_update_stats` adds up naively, so that its rounding shows after a few steps.
    """
    images, channels = input.shape[:2]
    pixels = input.movedim(1, -1).reshape(images, -1, channels)
    count = images * pixels.shape[1]
    mean = pixels.sum(1).sum(0, dtype=torch.float64).div_(count)
    squares = (pixels - mean.to(input.dtype)).square_().sum(1).sum(0, dtype=torch.float64)
    return mean, squares.div_(count), mean.new_full((1,), count)


def synchronize_batch_norms(model: nn.Module, device: torch.device) -> nn.Module:
    """Replace every batch normalisation of a model by one across ranks, with the same weights and statistics."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    for name, child in model.named_children():
        setattr(
            model,
            name,
            _across_ranks(child) if isinstance(child, _BatchNorm) else synchronize_batch_norms(child, device),
        )
    return model


def _across_ranks(layer: Any) -> SyncedBatchNorm:
    place = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    synced = SyncedBatchNorm(layer.num_features, layer.eps, layer.momentum, **place)
    synced.load_state_dict(layer.state_dict())
    return synced
