"""Transfer functions g: how strongly two patches attract, by their distance in units of the length λ.

`TRANSFER_FUNCTIONS` lists them under the names that `transfer:` takes in an experiments file. A new one is a function
here and its place in the list. g takes d/λ (n, N), float, which it may overwrite (fresh memory costs as much as the
arithmetic), and returns weights of the same shape: 0 or more, not increasing with the distance, 1 at distance 0.

Importing this module does not import torch, because experiments files are checked where torch is not loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from cytonet_pipeline.learning.registry import entry_named

if TYPE_CHECKING:
    import torch

TransferFunction = Callable[["torch.Tensor"], "torch.Tensor"]


def gaussian(relative: torch.Tensor) -> torch.Tensor:
    """Return exp(-(d/λ)²/2)."""
    return _exp_(relative.square_().mul_(-0.5))


def exponential(relative: torch.Tensor) -> torch.Tensor:
    """Return exp(-d/λ)."""
    return _exp_(relative.neg_())


def inverse(relative: torch.Tensor) -> torch.Tensor:
    """Return 1/(1 + d/λ)."""
    return relative.add_(1).reciprocal_()


def threshold(relative: torch.Tensor) -> torch.Tensor:
    """Return 1 where d ≤ λ, else 0."""
    return (relative <= 1).to(relative.dtype)


TRANSFER_FUNCTIONS: dict[str, TransferFunction] = {g.__name__: g for g in (gaussian, exponential, inverse, threshold)}


def transfer_named(name: str) -> TransferFunction:
    """Return a transfer function; a `ConfigurationError` lists the known ones if there is none of that name."""
    return entry_named(name, TRANSFER_FUNCTIONS, "transfer function")


def _exp_(exponent: torch.Tensor) -> torch.Tensor:
    """Exponentiate in place; results near the smallest normal number become 0, as denormals are ten times as slow."""
    import torch
    from torch.nn import functional

    least = math.log(torch.finfo(exponent.dtype).tiny) + 1
    values = exponent.clamp_(min=least).exp_()
    return functional.threshold(values, 1.1 * math.exp(least), 0, inplace=True)
