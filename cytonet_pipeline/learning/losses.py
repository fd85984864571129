r"""Contrastive losses whose positives carry weights: by distance in the reference brain, or by label.

Both losses are one formula. For unit vectors z, weights g and a temperature τ

    L = -(1/N) Σ_i [ Σ_{k≠i} g_ik · log p(i|k) ] / Σ_{j≠i} g_ij,   p(i|k) = exp(z_i·z_k/τ) / Σ_{l≠k} exp(z_l·z_k/τ)

with g_ik = g(d_ik), a transfer function of the distance of two patches in Colin-27 (the CytoNet poster, which prints
1/g and no minus sign; read as a normaliser and a negative log-likelihood), or g_ik = [same label] (SupCon: Khosla et
al. 2020). The softmax is anchored on k as printed, or on i as in SupCon. With d = 0 within a label, d = ∞ between
labels and anchor i the first *is* the second.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from cytonet_pipeline.learning.distributed import Layout, summed, world_size

Anchor = Literal["k", "i"]
Transfer = Literal["gaussian", "exponential", "inverse", "threshold"]
Distance = Literal["euclidean", "mirrored"]


@dataclass(frozen=True)
class Pairs:
    """Weights between all samples (rows) and this rank's anchors (columns), without gradient.

    Attributes
    ----------
    weights : (N, n) tensor
        g; 0 where a pair is not allowed.
    allowed : (N, n) bool tensor
        Pairs that take part in the softmax: not a sample with itself, not a dropped pair.
    between_brains : (N, n) bool tensor
        Pairs of different brains.
    """

    weights: torch.Tensor
    allowed: torch.Tensor
    between_brains: torch.Tensor


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
        self._likelihood: _WeightedLikelihood | None = None

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
        pairs = self._pairs(positions_mm, own_brains, layout)
        self_weight = float(self.weight_of(torch.zeros(1))) if self.self_term else 0.0
        self._likelihood = _WeightedLikelihood(
            z, layout, pairs, self.temperature, self.anchor, self_weight, self.min_mass
        )
        return self._likelihood.loss

    @property
    def logged(self) -> torch.Tensor:
        """Loss of the last batch over all ranks, without gradient."""
        return _of_last(self._likelihood).over_ranks()

    def statistics(self) -> dict[str, float]:
        """What the positives of the last batch were like; see `_WeightedLikelihood.statistics`."""
        return _of_last(self._likelihood).statistics()

    def _pairs(self, positions_mm: torch.Tensor, brains: torch.Tensor, layout: Layout) -> Pairs:
        with torch.no_grad():
            allowed = _others(layout, brains.device)
            distance = self.distance_between(layout.gather(positions_mm), positions_mm)
            same_brain = layout.gather(brains)[:, None] == brains[None]
            if self.drop_same_brain_mm > 0:
                allowed &= ~(same_brain & (distance < self.drop_same_brain_mm))
            weights = self.weight_of(distance) * allowed
            if self.same_brain_weight != 1:
                weights = torch.where(same_brain, weights * self.same_brain_weight, weights)
            return Pairs(weights, allowed, ~same_brain)

    def distance_between(self, rows_mm: torch.Tensor, columns_mm: torch.Tensor) -> torch.Tensor:
        """Distances (N, n) in mm, by differences: |a|² + |b|² - 2ab cancels for near neighbours far from the origin."""
        if self.distance == "mirrored":
            mirror = torch.tensor([0], device=rows_mm.device)
            rows_mm = rows_mm.index_copy(1, mirror, rows_mm[:, :1].abs())
            columns_mm = columns_mm.index_copy(1, mirror, columns_mm[:, :1].abs())
        squares = [(rows_mm[:, axis, None] - columns_mm[None, :, axis]) ** 2 for axis in range(rows_mm.shape[1])]
        return sum(squares[1:], start=squares[0]).sqrt()

    def weight_of(self, distance_mm: torch.Tensor) -> torch.Tensor:
        """The transfer function g."""
        relative = distance_mm / self.length_mm
        if self.transfer == "gaussian":
            return torch.exp(-0.5 * relative**2)
        if self.transfer == "exponential":
            return torch.exp(-relative)
        if self.transfer == "inverse":
            return 1 / (1 + relative)
        return (relative <= 1).to(distance_mm.dtype)


class SupervisedContrastiveLoss(nn.Module):
    """SupCon: every sample of the same label is a positive of weight 1, the softmax is anchored on i.

    Samples with label 0 are positives of nothing; they stay in the denominators.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature
        self._likelihood: _WeightedLikelihood | None = None

    def forward(self, z: torch.Tensor, labels: torch.Tensor, brains: torch.Tensor | None = None) -> torch.Tensor:
        """Loss of unit vectors z (B, D) with labels (B,); see `DistanceWeightedContrastiveLoss.forward`."""
        own_brains = torch.zeros_like(labels) if brains is None else brains
        layout = Layout.of(z)
        with torch.no_grad():
            allowed = _others(layout, labels.device)
            same = (layout.gather(labels)[:, None] == labels[None]) & (labels[None] > 0) & allowed
            pairs = Pairs(same.to(z.dtype), allowed, layout.gather(own_brains)[:, None] != own_brains[None])
        # A mass is a number of positives: half of one keeps every sample that has any.
        self._likelihood = _WeightedLikelihood(z, layout, pairs, self.temperature, "i", 0.0, 0.5)
        return self._likelihood.loss

    @property
    def logged(self) -> torch.Tensor:
        """Loss of the last batch over all ranks, without gradient."""
        return _of_last(self._likelihood).over_ranks()

    def statistics(self) -> dict[str, float]:
        """What the positives of the last batch were like; see `_WeightedLikelihood.statistics`."""
        return _of_last(self._likelihood).statistics()


class _WeightedLikelihood:
    """The formula above, for one batch: its loss, and what the positives were like.

    Each rank owns its samples as anchors of the softmax: the columns of the matrices. Anchored on k the weights of a
    pair are divided by the mass of the row, anchored on i by that of the column.
    """

    def __init__(
        self,
        z: torch.Tensor,
        layout: Layout,
        pairs: Pairs,
        temperature: float,
        anchor: Anchor,
        self_weight: float,
        min_mass: float,
    ) -> None:
        z = z if z.dtype == torch.float64 else z.float()
        weights = pairs.weights.to(z.dtype)
        # (3, N): Σg, Σg², Σg between brains, of every sample of all ranks.
        sums = torch.stack([weights.sum(1), (weights**2).sum(1), (weights * pairs.between_brains).sum(1)])
        self.mass, self.squares, self.between = summed(sums)
        self.stays = (self.mass + self_weight > 0) & (self.mass >= min_mass)
        factor = torch.where(self.stays, 1 / (self.mass + self_weight), 0)
        factor = factor[:, None] if anchor == "k" else factor[None, layout.own]
        similarity = layout.gather_with_gradient(z) @ z.T / temperature
        # A finite floor: a sample with no allowed partner at all would turn -inf into NaN on the way back.
        masked = similarity.masked_fill(~pairs.allowed, torch.finfo(z.dtype).min / 4)
        log_p = similarity - masked.logsumexp(0, keepdim=True)
        total = -(weights * factor * log_p).sum() / self.stays.sum().clamp(min=1)
        self._share = total.detach()
        self.loss = total * world_size()

    def over_ranks(self) -> torch.Tensor:
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


def _of_last(likelihood: _WeightedLikelihood | None) -> _WeightedLikelihood:
    if likelihood is None:
        raise ValueError("no batch yet")
    return likelihood


def _others(layout: Layout, device: torch.device) -> torch.Tensor:
    """(N, n) bool: everything but a sample with itself."""
    everybody = torch.arange(layout.total, device=device)
    return everybody[:, None] != everybody[None, layout.own]
