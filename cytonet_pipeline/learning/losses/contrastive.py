r"""Contrastive losses whose positives carry weights: by distance in the reference brain, or by label.

Both losses are one formula. For unit vectors z, weights g and a temperature τ

    L = -(1/N) Σ_i [ Σ_{k≠i} g_ik · log p(i|k) ] / Σ_{j≠i} g_ij,   p(i|k) = exp(z_i·z_k/τ) / Σ_{l≠k} exp(z_l·z_k/τ)

with g_ik = g(d_ik), a transfer function of the distance of two patches in Colin-27 (the CytoNet poster, which prints
1/g and no minus sign; read as a normaliser and a negative log-likelihood), or g_ik = [same label] (SupCon: Khosla et
al. 2020). The softmax is anchored on k as printed, or on i as in SupCon. With d = 0 within a label, d = ∞ between
labels and anchor i the first *is* the second.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from cytonet_pipeline.learning.losses.contrastive_nll import Anchor, Pairs, WeightedLikelihood
from cytonet_pipeline.learning.parallel.distributed import Layout

Transfer = Literal["gaussian", "exponential", "inverse", "threshold"]
Distance = Literal["euclidean", "mirrored"]


class DistanceWeightedContrastiveLoss(nn.Module):
    """Negative log-likelihood of neighbours, weighted by distance in the reference brain.

    Parameters
    ----------
    temperature : float
        τ of the softmax.
    transfer : {"gaussian", "exponential", "inverse", "threshold"}
        g(d): exp(-d²/2λ²), exp(-d/λ), 1/(1 + d/λ), [d ≤ λ].
    length_mm : float
        λ. 5 mm suits a batch of 2048 (8 effective positives in the median), 8 mm a batch of 512.
    anchor : {"k", "i"}
        Which of a pair normalises the softmax.
    self_term : bool
        Add g(0) to the normaliser of the weights: damps samples without near neighbours.
    min_mass : float
        Samples with Σ_{j≠i} g_ij below this are dropped and counted; the mean runs over those that stay. Without
        `min_mass` and `self_term` a patch whose nearest neighbour is 10 mm away gets a full-weight positive.
    distance : {"euclidean", "mirrored"}
        `mirrored` takes |x|: left and right homologues attract.
    same_brain_weight : float
        Factor on the weights of pairs of one brain.
    drop_same_brain_mm : float
        Pairs of one brain nearer than this leave both sums.

    Notes
    -----
    Not published and chosen here: g, τ, the options, and that duplicates of a sample in a batch are positives of
    weight g(0).
    """

    def __init__(
        self,
        temperature: float = 0.1,
        transfer: Transfer = "gaussian",
        length_mm: float = 5.0,
        *,
        anchor: Anchor = "k",
        self_term: bool = False,
        min_mass: float = 0.1,
        distance: Distance = "euclidean",
        same_brain_weight: float = 1.0,
        drop_same_brain_mm: float = 0.0,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.transfer = transfer
        self.length_mm = length_mm
        self.anchor: Anchor = anchor
        self.self_term = self_term
        self.min_mass = min_mass
        self.distance = distance
        self.same_brain_weight = same_brain_weight
        self.drop_same_brain_mm = drop_same_brain_mm
        self._likelihood: WeightedLikelihood | None = None

    def forward(self, z: torch.Tensor, positions_mm: torch.Tensor, brains: torch.Tensor | None = None) -> torch.Tensor:
        """Loss of a batch.

        Parameters
        ----------
        z : (B, D) tensor
            Unit vectors.
        positions_mm : (B, 3) tensor
            Patch centres in the reference space (RAS).
        brains : (B,) integer tensor, optional
            Number of each sample's brain; needed by `same_brain_weight` and `drop_same_brain_mm`.

        Returns
        -------
        scalar tensor, float32 (float64 for float64 input)
            The loss to be back-propagated. Among several ranks: this rank's share times the number of ranks, because
            DDP averages gradients; `logged` is the loss of the whole batch. 0 with zero gradient if no sample stays.
        """
        if brains is None and (self.same_brain_weight != 1 or self.drop_same_brain_mm > 0):
            raise ValueError("same_brain_weight and drop_same_brain_mm need to know the brains")
        own_brains = torch.zeros(len(z), dtype=torch.long, device=z.device) if brains is None else brains
        layout = Layout.of(z)
        pairs_of = self._pairs_of(positions_mm.detach(), own_brains, layout)
        self_weight = float(self.weight_of(torch.zeros(1))) if self.self_term else 0.0
        self._likelihood = WeightedLikelihood(
            z, layout, pairs_of, self.temperature, self.anchor, self_weight, self.min_mass
        )
        return self._likelihood.loss

    @property
    def logged(self) -> torch.Tensor:
        """Loss of the last batch over all ranks, without gradient."""
        return _of_last(self._likelihood).over_ranks()

    def statistics(self) -> dict[str, float]:
        """What the positives of the last batch were like; see `WeightedLikelihood.statistics`."""
        return _of_last(self._likelihood).statistics()

    def _pairs_of(self, own_mm: torch.Tensor, own: torch.Tensor, layout: Layout) -> Callable[[slice], Pairs]:
        all_mm, brains = layout.gather(own_mm), layout.gather(own)

        def pairs_of(rows: slice) -> Pairs:
            distance = self.distance_between(own_mm[rows], all_mm)
            weights, between = self.weight_of(distance), _differ(own[rows], brains, distance.dtype)
            if self.same_brain_weight != 1:
                weights = weights * (between + (1 - between) * self.same_brain_weight)
            if self.drop_same_brain_mm <= 0:
                return Pairs(weights, between)
            dropped = (between == 0) & (distance < self.drop_same_brain_mm)
            return Pairs(weights.masked_fill_(dropped, 0), between, dropped)

        return pairs_of

    def distance_between(self, rows_mm: torch.Tensor, columns_mm: torch.Tensor) -> torch.Tensor:
        """Distances (n, N) in mm, by differences: |a|² + |b|² - 2ab cancels for near neighbours far from the origin."""
        if self.distance == "mirrored":
            mirror = torch.tensor([0], device=rows_mm.device)
            rows_mm = rows_mm.index_copy(1, mirror, rows_mm[:, :1].abs())
            columns_mm = columns_mm.index_copy(1, mirror, columns_mm[:, :1].abs())
        squared = rows_mm.new_zeros(len(rows_mm), len(columns_mm))
        for rows, columns in zip(rows_mm.T.contiguous(), columns_mm.T.contiguous(), strict=True):
            difference = rows[:, None] - columns
            squared.addcmul_(difference, difference)
        return squared.sqrt_()

    def weight_of(self, distance_mm: torch.Tensor) -> torch.Tensor:
        """The transfer function g."""
        # In place from here on: fresh memory costs as much as the arithmetic.
        relative = distance_mm / self.length_mm
        if self.transfer == "gaussian":
            return _exp_(relative.square_().mul_(-0.5))
        if self.transfer == "exponential":
            return _exp_(relative.neg_())
        if self.transfer == "inverse":
            return relative.add_(1).reciprocal_()
        return (relative <= 1).to(distance_mm.dtype)


class SupervisedContrastiveLoss(nn.Module):
    """SupCon: every sample of the same label is a positive of weight 1, the softmax is anchored on i.

    Samples with label 0 are positives of nothing; they stay in the denominators.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature
        self._likelihood: WeightedLikelihood | None = None

    def forward(self, z: torch.Tensor, labels: torch.Tensor, brains: torch.Tensor | None = None) -> torch.Tensor:
        """Loss of unit vectors z (B, D) with labels (B,); see `DistanceWeightedContrastiveLoss.forward`."""
        own_brains = torch.zeros_like(labels) if brains is None else brains
        layout = Layout.of(z)
        everybody, brains = layout.gather(labels), layout.gather(own_brains)

        def pairs_of(rows: slice) -> Pairs:
            same = (labels[rows, None] == everybody[None]) & (labels[rows, None] > 0)
            return Pairs(same.to(z.dtype), _differ(own_brains[rows], brains, z.dtype))

        # A mass is a number of positives: half of one keeps every sample that has any.
        self._likelihood = WeightedLikelihood(z, layout, pairs_of, self.temperature, "i", 0.0, 0.5)
        return self._likelihood.loss

    @property
    def logged(self) -> torch.Tensor:
        """Loss of the last batch over all ranks, without gradient."""
        return _of_last(self._likelihood).over_ranks()

    def statistics(self) -> dict[str, float]:
        """What the positives of the last batch were like; see `WeightedLikelihood.statistics`."""
        return _of_last(self._likelihood).statistics()


def _differ(rows: torch.Tensor, columns: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n, N): 1 where brains differ, else 0. As floats they are compared and weighed three times as fast."""
    result = torch.empty(len(rows), len(columns), dtype=dtype, device=rows.device)
    return torch.ne(rows.to(dtype)[:, None], columns.to(dtype), out=result)


def _exp_(exponent: torch.Tensor) -> torch.Tensor:
    """Exponential in place; the last few numbers above 0 become 0: arithmetic on denormal ones is ten times as slow."""
    least = math.log(torch.finfo(exponent.dtype).tiny) + 1
    values = exponent.clamp_(min=least).exp_()
    return functional.threshold(values, 1.1 * math.exp(least), 0, inplace=True)


def _of_last(likelihood: WeightedLikelihood | None) -> WeightedLikelihood:
    if likelihood is None:
        raise ValueError("no batch yet")
    return likelihood
