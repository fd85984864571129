r"""Contrastive losses whose positives carry weights: by distance in the reference brain, or by label.

Both losses are one formula. For unit vectors z, weights g and a temperature τ

    L = -(1/N) Σ_i [ Σ_{k≠i} g_ik · log p(i|k) ] / Σ_{j≠i} g_ij,   p(i|k) = exp(z_i·z_k/τ) / Σ_{l≠k} exp(z_l·z_k/τ)

with g_ik = g(d_ik), a transfer function of the distance of two patches in Colin-27 (the CytoNet poster, which prints
1/g and no minus sign; read as a normaliser and a negative log-likelihood), or g_ik = [same label] (SupCon: Khosla et
al. 2020). The softmax is anchored on k as printed, or on i as in SupCon. With d = 0 within a label, d = ∞ between
labels and anchor i the first *is* the second.
"""

import torch
from torch import nn

from cytonet_pipeline.learning.losses.contrastive_nll import Anchor, ContrastiveNLL, Pairs
from cytonet_pipeline.learning.losses.distances import Distance, distance_named
from cytonet_pipeline.learning.losses.transfer import TransferFunction, transfer_named
from cytonet_pipeline.learning.parallel.distributed import Layout


class ContrastiveLoss(nn.Module):
    """What both losses share: the temperature, and the figures of the last batch."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self._of_last_batch: ContrastiveNLL | None = None

    @property
    def logged(self) -> torch.Tensor:
        """Loss of the last batch over all ranks, without gradient."""
        return self._last_batch().over_ranks()

    def statistics(self) -> dict[str, float]:
        """Describe the positives of the last batch; see `ContrastiveNLL.statistics`."""
        return self._last_batch().statistics()

    def _last_batch(self) -> ContrastiveNLL:
        if self._of_last_batch is None:
            raise ValueError("no batch yet")
        return self._of_last_batch


class DistanceWeightedContrastiveLoss(ContrastiveLoss):
    """Negative log-likelihood of neighbours, weighted by distance in the reference brain.

    Parameters
    ----------
    temperature : float
        τ of the softmax.
    transfer : str or callable
        g: `gaussian` exp(-d²/2λ²), `exponential` exp(-d/λ), `inverse` 1/(1 + d/λ), `threshold` [d ≤ λ]; or a function
        as `losses.transfer` describes it.
    length_mm : float
        λ. 5 mm suits a batch of 2048 (8 effective positives in the median), 8 mm a batch of 512.
    anchor : {"k", "i"}
        Which of a pair normalises the softmax.
    self_term : bool
        Add g(0) to the normaliser of the weights: damps samples without near neighbours.
    min_mass : float
        Samples with Σ_{j≠i} g_ij below this are dropped and counted; the mean runs over those that stay. Without
        `min_mass` and `self_term` a patch whose nearest neighbour is 10 mm away gets a full-weight positive.
    distance : str or Distance
        `euclidean`; `mirrored`, which takes |x|, so that left and right homologues attract; or an object as
        `losses.distances` describes it.
    same_brain_weight : float
        Factor on the weights of pairs within one brain.
    drop_same_brain_mm : float
        Pairs within one brain nearer than this are left out of both sums.

    Raises
    ------
    ConfigurationError
        There is no transfer function or distance of that name.

    Notes
    -----
    The poster does not publish g, τ or these options; they are chosen here, as is that duplicates of a sample in a
    batch are positives of weight g(0).
    """

    def __init__(
        self,
        temperature: float = 0.1,
        transfer: str | TransferFunction = "gaussian",
        length_mm: float = 5.0,
        *,
        anchor: Anchor = "k",
        self_term: bool = False,
        min_mass: float = 0.1,
        distance: str | Distance = "euclidean",
        same_brain_weight: float = 1.0,
        drop_same_brain_mm: float = 0.0,
    ) -> None:
        super().__init__(temperature)
        self.transfer = transfer_named(transfer) if isinstance(transfer, str) else transfer
        self.length_mm = length_mm
        self.anchor: Anchor = anchor
        self.self_term = self_term
        self.min_mass = min_mass
        self.distance = distance_named(distance) if isinstance(distance, str) else distance
        self.same_brain_weight = same_brain_weight
        self.drop_same_brain_mm = drop_same_brain_mm

    def forward(self, z: torch.Tensor, positions_mm: torch.Tensor, brains: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the loss of a batch.

        Parameters
        ----------
        z : (B, D) tensor
            Unit vectors.
        positions_mm : (B, 3) tensor
            Patch centres in the reference space (RAS); for a distance with coordinates of its own those, (B, C).
        brains : (B,) integer tensor, optional
            Number of each sample's brain; needed by `same_brain_weight` and `drop_same_brain_mm`.

        Returns
        -------
        scalar tensor, float32 (float64 for float64 input)
            The loss to be back-propagated. Among several ranks: this rank's share times the number of ranks, because
            DDP averages gradients; `logged` is the loss of the whole batch. 0 with zero gradient if no sample stays.

        Raises
        ------
        ValueError
            `brains` is missing where an option needs it.
        """
        if brains is None and (self.same_brain_weight != 1 or self.drop_same_brain_mm > 0):
            raise ValueError("same_brain_weight and drop_same_brain_mm need to know the brains")
        own_mm = positions_mm.detach()
        own_brains = torch.zeros(len(z), dtype=torch.long, device=z.device) if brains is None else brains
        layout = Layout.of(z)
        all_mm, all_brains = layout.gather(own_mm), layout.gather(own_brains)

        def pairs_of(rows: slice) -> Pairs:
            return self._pairs(own_mm[rows], all_mm, own_brains[rows], all_brains)

        self_weight = float(self.weight_of(torch.zeros(1))) if self.self_term else 0.0
        self._of_last_batch = ContrastiveNLL(
            z, layout, pairs_of, self.temperature, self.anchor, self_weight, self.min_mass
        )
        return self._of_last_batch.loss

    def weights_between(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Return g (n, N) of patches with coordinates (n, C) and (N, C), whatever their brains."""
        return self.weight_of(self.distance.between(rows, columns))

    def weight_of(self, distance_mm: torch.Tensor) -> torch.Tensor:
        """Apply the transfer function g."""
        return self.transfer(distance_mm / self.length_mm)

    def _pairs(
        self, rows: torch.Tensor, columns: torch.Tensor, row_brains: torch.Tensor, column_brains: torch.Tensor
    ) -> Pairs:
        distance_mm = self.distance.between(rows, columns)
        weights, between = self.weight_of(distance_mm), _differ(row_brains, column_brains, distance_mm.dtype)
        if self.same_brain_weight != 1:
            weights = weights * (between + (1 - between) * self.same_brain_weight)
        if self.drop_same_brain_mm <= 0:
            return Pairs(weights, between)
        dropped = (between == 0) & (distance_mm < self.drop_same_brain_mm)
        return Pairs(weights.masked_fill_(dropped, 0), between, dropped)


class SupervisedContrastiveLoss(ContrastiveLoss):
    """SupCon: every sample of the same label is a positive of weight 1, the softmax is anchored on i.

    Samples with label 0 are positives of nothing; they stay in the denominators.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__(temperature)

    def forward(self, z: torch.Tensor, labels: torch.Tensor, brains: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the loss of unit vectors z (B, D) with labels (B,); see `DistanceWeightedContrastiveLoss.forward`."""
        own_brains = torch.zeros_like(labels) if brains is None else brains
        layout = Layout.of(z)
        all_labels, all_brains = layout.gather(labels), layout.gather(own_brains)

        def pairs_of(rows: slice) -> Pairs:
            same = (labels[rows, None] == all_labels[None]) & (labels[rows, None] > 0)
            return Pairs(same.to(z.dtype), _differ(own_brains[rows], all_brains, z.dtype))

        # The mass is the number of positives: a least mass of a half keeps every sample that has any.
        self._of_last_batch = ContrastiveNLL(z, layout, pairs_of, self.temperature, "i", 0.0, 0.5)
        return self._of_last_batch.loss


def _differ(rows: torch.Tensor, columns: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return (n, N): 1 where brains differ, else 0. As floats they are compared and weighted three times as fast."""
    result = torch.empty(len(rows), len(columns), dtype=dtype, device=rows.device)
    return torch.ne(rows.to(dtype)[:, None], columns.to(dtype), out=result)
