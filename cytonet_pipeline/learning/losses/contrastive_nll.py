r"""The weighted negative log-likelihood (NLL) behind both contrastive losses, for one batch, with its gradient.

The anchors of a rank are its own samples, the rows of every matrix here; the columns are the samples of all ranks. With
similarities s, weights v (g, divided by the mass of a sample and the number of samples) and p the softmax of a row,

    L = -Σ v_kj · log p_kj,      ∂L/∂s_kj = p_kj Σ_l v_kl - v_kj

Rows are processed in blocks that fit into a cache, and the gradient with respect to the embeddings is accumulated on
the way: the matrix of weights is the only one that is ever held whole.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.autograd.function import once_differentiable

from cytonet_pipeline.learning.parallel.distributed import Layout, summed, world_size

Anchor = Literal["k", "i"]
# A CPU wants blocks that fit its cache, a GPU few large kernels.
_BLOCK_BYTES = {"cpu": 1 << 22}
_GPU_BLOCK_BYTES = 1 << 26


@dataclass(frozen=True)
class Pairs:
    """Pairs of some anchors with all samples. Entries that pair a sample with itself are ignored.

    Attributes
    ----------
    weights : (n, N) tensor
        g, without gradient, the same from i to k as from k to i; 0 for dropped pairs.
    between_brains : (n, N) tensor
        1 for pairs of different brains, else 0.
    dropped : (n, N) bool tensor, optional
        Pairs that are left out of the softmax too.
    """

    weights: torch.Tensor
    between_brains: torch.Tensor
    dropped: torch.Tensor | None = None


class ContrastiveNLL:
    """The formula of `losses.contrastive` for one batch: its loss, and figures of the positives.

    Parameters
    ----------
    z : (n, D) tensor
        Unit vectors of this rank's samples.
    pairs_of : callable
        Returns the `Pairs` of a slice of this rank's samples.
    anchor : {"k", "i"}
        Anchored on k, the weight of a pair is divided by the mass of the other sample; on i, by that of the anchor.
    self_weight : float
        Added to every mass before dividing.
    min_mass : float
        Samples with less mass than this are left out.
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
        weights, dropped, sums = _weigh(z, layout, pairs_of)
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
        """Return the loss of the whole batch, without gradient."""
        return summed(self._share)

    def statistics(self) -> dict[str, float]:
        """Describe the positives of the batch, over all ranks.

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
    """-Σ v log p over this rank's anchors; gradients for all samples as columns, and for this rank's as anchors."""

    @staticmethod
    def forward(
        ctx: Any,
        all_z: torch.Tensor,
        own_z: torch.Tensor,
        weights: torch.Tensor,
        dropped: torch.Tensor | None,
        scale: torch.Tensor,
        temperature: float,
        start: int,
    ) -> torch.Tensor:
        needs_gradient = any(ctx.needs_input_grad)
        in_columns, in_rows = torch.zeros_like(all_z), torch.zeros_like(own_z)
        total = own_z.new_zeros(())
        for rows in _blocks(weights):
            v = weights[rows] * (scale if len(scale) == 1 else scale[rows])
            log_p = own_z[rows] / temperature @ all_z.T
            # A finite floor: an anchor without any partner has weights of 0, and 0 · -inf is NaN.
            floor = torch.finfo(log_p.dtype).min / 4
            _diagonal(log_p, rows, start).fill_(floor)
            if dropped is not None:
                log_p.masked_fill_(dropped[rows], floor)
            log_p = torch.log_softmax(log_p, 1)
            total -= torch.dot(v.view(-1), log_p.view(-1))
            if needs_gradient:
                gradient = log_p.exp_().mul_(v.sum(1, keepdim=True)).sub_(v)
                torch.mm(gradient, all_z, out=in_rows[rows])
                in_columns.addmm_(gradient.T, own_z[rows])
        ctx.save_for_backward(in_columns.div_(temperature), in_rows.div_(temperature))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        in_columns, in_rows = ctx.saved_tensors
        return in_columns * factor, in_rows * factor, None, None, None, None, None


def _weigh(
    z: torch.Tensor, layout: Layout, pairs_of: Callable[[slice], Pairs]
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """Return weights (n, N), dropped pairs (n, N) or None, and per anchor Σg, Σg², Σg between brains (n, 3)."""
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
    """Yield slices of rows, each about as large as a block."""
    size = _BLOCK_BYTES.get(matrix.device.type, _GPU_BLOCK_BYTES)
    rows = max(1, size // max(1, matrix.shape[1] * matrix.element_size()))
    return (slice(start, min(start + rows, len(matrix))) for start in range(0, len(matrix), rows))


def _diagonal(block: torch.Tensor, rows: slice, start: int) -> torch.Tensor:
    """Return a view of a block where anchors meet themselves; `start`: place of this rank's first sample among all."""
    return block[:, start + rows.start : start + rows.stop].diagonal()
