r"""The weighted log-likelihood behind both contrastive losses, for one batch, with its gradient in closed form.

Each rank owns its samples as anchors: the rows of every matrix here; the columns are the samples of all ranks. With
similarities s, weights v (g, divided by the mass of a sample and the number of samples) and p the softmax of a row,

    L = -Σ v_kj · log p_kj,      ∂L/∂s_kj = p_kj Σ_l v_kl - v_kj

Rows are worked through in blocks that fit a cache, and the gradient in the embeddings is summed up on the way: of all
matrices only the weights exist as a whole.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.autograd.function import once_differentiable

from cytonet_pipeline.learning.parallel.distributed import Layout, summed, world_size

Anchor = Literal["k", "i"]
# A block stays near the cores; a GPU wants few large kernels.
_BLOCK_BYTES = {"cpu": 1 << 22}
_GPU_BLOCK_BYTES = 1 << 26


@dataclass(frozen=True)
class Pairs:
    """Pairs of some anchors with all samples. Whatever is said here of a sample with itself is not looked at.

    Attributes
    ----------
    weights : (n, N) tensor
        g, without gradient, as large from i to k as from k to i; 0 for dropped pairs.
    between_brains : (n, N) tensor
        1 for pairs of different brains, else 0.
    dropped : (n, N) bool tensor, optional
        Pairs that leave the softmax too.
    """

    weights: torch.Tensor
    between_brains: torch.Tensor
    dropped: torch.Tensor | None = None


class WeightedLikelihood:
    """The formula of `losses` for one batch: its loss, and what the positives were like.

    Parameters
    ----------
    z : (n, D) tensor
        Unit vectors of this rank's samples.
    pairs_of : callable
        `Pairs` of a slice of this rank's samples.
    anchor : {"k", "i"}
        Anchored on k the weights of a pair are divided by the mass of the other sample, on i by that of the anchor.
    self_weight : float
        Added to every mass before dividing.
    min_mass : float
        Samples with less mass are left out.
    """

    def __init__(
        self,
        z: torch.Tensor,
        layout: Layout,
        pairs_of: Callable[[slice], Pairs],
        temperature: float,
        anchor: Anchor,
        self_weight: float,
        min_mass: float,
    ) -> None:
        z = z if z.dtype == torch.float64 else z.float()
        weights, dropped, sums = _weighed(z, layout, pairs_of)
        # (N, 3): Σg, Σg², Σg between brains, of every sample of all ranks. Weights are symmetric: rows are complete.
        self.mass, self.squares, self.between = layout.gather(sums).unbind(1)
        self.stays = (self.mass + self_weight > 0) & (self.mass >= min_mass)
        scale = torch.where(self.stays, 1 / (self.mass + self_weight), 0) / self.stays.sum().clamp(min=1)
        scale = scale[None] if anchor == "k" else scale[layout.own, None]
        share = _NegativeLogLikelihood.apply(  # type: ignore[no-untyped-call]
            layout.gather_with_gradient(z), z, weights, dropped, scale, temperature, layout.own.start
        )
        self._share = share.detach()
        self.loss: torch.Tensor = share * world_size()

    def over_ranks(self) -> torch.Tensor:
        """The loss of the whole batch, without gradient."""
        return summed(self._share)

    def statistics(self) -> dict[str, float]:
        """Of the last batch, all ranks together.

        Returns
        -------
        dict
            `effective_positives`, the median of (Σg)²/Σg²; `positive_mass`, the median of Σg; `cross_brain_share`, the
            share of positive weight between brains; `dropped_anchors`, the share of samples below `min_mass`.
        """
        effective = torch.where(self.squares > 0, self.mass**2 / self.squares.clamp(min=1e-30), 0)
        cross = self.between.sum() / self.mass.sum().clamp(min=1e-30)
        return {
            "effective_positives": float(effective.median()),
            "positive_mass": float(self.mass.median()),
            "cross_brain_share": float(cross),
            "dropped_anchors": float(1 - self.stays.float().mean()),
        }


class _NegativeLogLikelihood(torch.autograd.Function):
    """-Σ v log p over this rank's anchors; gradients for the samples of all ranks, and for its own as anchors."""

    @staticmethod
    def forward(
        ctx: Any,
        everybody: torch.Tensor,
        own: torch.Tensor,
        weights: torch.Tensor,
        dropped: torch.Tensor | None,
        scale: torch.Tensor,
        temperature: float,
        start: int,
    ) -> torch.Tensor:
        wanted = any(ctx.needs_input_grad)
        in_columns, in_rows = torch.zeros_like(everybody), torch.zeros_like(own)
        total = own.new_zeros(())
        for rows in _blocks(weights):
            v = weights[rows] * (scale if len(scale) == 1 else scale[rows])
            log_p = own[rows] / temperature @ everybody.T
            # A finite floor: an anchor without any partner has weights of 0, and 0 · -inf is not a number.
            floor = torch.finfo(log_p.dtype).min / 4
            _diagonal(log_p, rows, start).fill_(floor)
            if dropped is not None:
                log_p.masked_fill_(dropped[rows], floor)
            log_p = torch.log_softmax(log_p, 1)
            total -= torch.dot(v.view(-1), log_p.view(-1))
            if wanted:
                gradient = log_p.exp_().mul_(v.sum(1, keepdim=True)).sub_(v)
                torch.mm(gradient, everybody, out=in_rows[rows])
                in_columns.addmm_(gradient.T, own[rows])
        ctx.save_for_backward(in_columns.div_(temperature), in_rows.div_(temperature))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        in_columns, in_rows = ctx.saved_tensors
        return in_columns * factor, in_rows * factor, None, None, None, None, None


def _weighed(
    z: torch.Tensor, layout: Layout, pairs_of: Callable[[slice], Pairs]
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """Weights (n, N), dropped pairs (n, N) if there are any, and per anchor Σg, Σg², Σg between brains (n, 3)."""
    weights, sums = z.new_empty(len(z), layout.total), z.new_empty(len(z), 3)
    dropped: torch.Tensor | None = None
    with torch.no_grad():
        for rows in _blocks(weights):
            pairs, part = pairs_of(rows), weights[rows]
            part.copy_(pairs.weights)
            _diagonal(part, rows, layout.own.start).zero_()
            sums[rows, 0], sums[rows, 1] = part.sum(1), torch.linalg.vecdot(part, part)
            sums[rows, 2] = torch.linalg.vecdot(part, pairs.between_brains.to(part.dtype))
            if pairs.dropped is not None:
                dropped = weights.new_empty(weights.shape, dtype=torch.bool) if dropped is None else dropped
                dropped[rows] = pairs.dropped
    return weights, dropped, sums


def _blocks(matrix: torch.Tensor) -> Iterator[slice]:
    """Slices of rows of about a block's size."""
    size = _BLOCK_BYTES.get(matrix.device.type, _GPU_BLOCK_BYTES)
    rows = max(1, size // max(1, matrix.shape[1] * matrix.element_size()))
    return (slice(start, min(start + rows, len(matrix))) for start in range(0, len(matrix), rows))


def _diagonal(block: torch.Tensor, rows: slice, start: int) -> torch.Tensor:
    """The elements of a block where an anchor meets itself; `start`: this rank's first sample among all."""
    return block[:, start + rows.start : start + rows.stop].diagonal()
