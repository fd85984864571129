"""Optimizers, and the schedule of the learning rate."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from cytonet_pipeline.settings import OptimizerBlock


def make_optimizer(model: nn.Module, block: OptimizerBlock) -> torch.optim.Optimizer:
    """Make AdamW or LARS; biases and normalisations are not decayed (nor adapted by LARS)."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": block.weight_decay, "adapted": True},
        {"params": others, "weight_decay": 0.0, "adapted": False},
    ]
    if block.name == "lars":
        return LARS(groups, lr=block.learning_rate)
    return torch.optim.AdamW(groups, lr=block.learning_rate)


def learning_rate(step: int, steps: int, block: OptimizerBlock) -> float:
    """Return the learning rate of a step: linear warm-up, then a cosine to zero."""
    warmup = min(block.warmup_steps, steps // 2)
    if step < warmup:
        return block.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return block.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


class LARS(torch.optim.Optimizer):
    """SGD with momentum, its steps scaled layer by layer to the norm of the weights (You, Gitman & Ginsburg 2017).

    For large batches: `lr` times `trust` is the relative change of a layer's weights per step.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 1e-3,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "adapted": True}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)
        return loss

    def _move(self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        update = gradient.add(parameter, alpha=group["weight_decay"])
        if group["adapted"]:
            weight, size = parameter.norm(), update.norm()
            ratio = torch.where((weight > 0) & (size > 0), group["trust"] * weight / size, torch.ones_like(size))
            update = update * ratio
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].mul_(group["momentum"]).add_(update)
        parameter.add_(state["momentum"], alpha=-group["lr"])
