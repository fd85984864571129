"""Objectives of training: a head on the features, a loss, and which patches take part.

`cytonet`: patches near each other in the reference brain attract. `supcon`: patches of one annotated area attract.
`scratch`: the area is predicted, end to end; the classifier is kept for the protocol of that name.
"""

import json
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from cytonet_pipeline.errors import TrainingError
from cytonet_pipeline.learning.backbones.encoders import projection_head
from cytonet_pipeline.learning.losses.contrastive import DistanceWeightedContrastiveLoss, SupervisedContrastiveLoss
from cytonet_pipeline.learning.losses.distances import distance_named
from cytonet_pipeline.learning.parallel.distributed import Layout, summed, world_size
from cytonet_pipeline.settings import EncoderBlock, LossBlock
from cytonet_pipeline.store import atomic_file


class Objective(Protocol):
    """A head and its loss.

    Attributes
    ----------
    head : module
        From features (B, feature_dim) to what the loss takes.
    eligible : (P,) bool array
        Rows of the training set that may be sampled.
    """

    head: nn.Module
    eligible: np.ndarray

    def loss(self, output: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Compute the loss to be back-propagated, of the head's output (B, …) for rows (B,) of the training set."""
        ...

    @property
    def logged(self) -> torch.Tensor:
        """Loss of the last batch over all ranks."""
        ...

    def statistics(self) -> dict[str, float]:
        """Return columns of the history, of the last batch over all ranks; every rank must call it."""
        ...

    def save(self, path: Path) -> None:
        """Write what evaluation needs beside the encoder."""
        ...


def make_objective(
    block: EncoderBlock, patches: pd.DataFrame, feature_dim: int, device: torch.device, folder: Path | None = None
) -> Objective:
    """Make the objective of an experiments entry.

    Parameters
    ----------
    patches : DataFrame
        Table `training_patches`.
    folder : Path, optional
        Folder of the encoder's version, where a distance may have its table.

    Raises
    ------
    TrainingError
        There are no patches to train on.
    """
    training = (patches["role"] == "train").to_numpy()
    if block.method in {"supcon", "scratch"}:
        training = training & (patches["annotated_area"] > 0).to_numpy()
    if int(training.sum()) < 2:
        kind = "training patches" if block.method == "cytonet" else "annotated training patches"
        raise TrainingError(
            f"the training set has {int(training.sum())} {kind}.",
            to_fix="look at the reasons in section_scans and in training_set.json",
        )
    if block.method == "scratch":
        return ClassifierObjective(block, patches, training, feature_dim, device)
    loss: DistanceWeightedContrastiveLoss | SupervisedContrastiveLoss
    targets: np.ndarray
    if block.method == "cytonet":
        loss = distance_weighted_loss(block.loss, folder)
        targets = loss.distance.coordinates_of(patches)
    else:
        loss = SupervisedContrastiveLoss(block.loss.temperature)
        targets = patches["annotated_area"].to_numpy(np.int64)
    head = projection_head(feature_dim, block.projection_dim, block.seed)
    brains = torch.tensor(pd.factorize(patches["brain"], sort=True)[0], device=device)
    return ContrastiveObjective(loss, head, torch.tensor(targets, device=device), brains, training)


def distance_weighted_loss(block: LossBlock, folder: Path | None = None) -> DistanceWeightedContrastiveLoss:
    """Make the loss of a `loss:` block; `folder` as in `make_objective`."""
    options = {**block.model_dump(), "distance": distance_named(block.distance, folder)}
    return DistanceWeightedContrastiveLoss(**options)


class ContrastiveObjective:
    """CytoNet and SupCon: a contrastive loss on a projection that is discarded afterwards.

    Parameters
    ----------
    targets : (P, …) tensor
        What the loss compares, per row of the training set: coordinates (mm) or label.
    brains : (P,) tensor
        Number of each row's brain.
    """

    def __init__(
        self,
        loss: DistanceWeightedContrastiveLoss | SupervisedContrastiveLoss,
        head: nn.Module,
        targets: torch.Tensor,
        brains: torch.Tensor,
        eligible: np.ndarray,
    ) -> None:
        self.head, self.eligible = head, eligible
        self._loss, self._targets, self._brains = loss, targets, brains

    def loss(self, output: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Compute the contrastive loss of projections (B, projection_dim)."""
        # Normalised in float32: bf16 keeps three digits, and dividing by a temperature of 0.1 costs one of them.
        z = functional.normalize(output.float(), dim=1)
        return self._loss(z, self._targets[rows], self._brains[rows])

    @property
    def logged(self) -> torch.Tensor:
        """Loss of the last batch over all ranks."""
        return self._loss.logged

    def statistics(self) -> dict[str, float]:
        """Describe the positives of the last batch."""
        return self._loss.statistics()

    def save(self, path: Path) -> None:
        """Write nothing: the projection head is discarded."""


class ClassifierObjective:
    """Training from scratch: cross-entropy over the annotated areas that occur in training."""

    def __init__(
        self,
        block: EncoderBlock,
        patches: pd.DataFrame,
        eligible: np.ndarray,
        feature_dim: int,
        device: torch.device,
    ) -> None:
        self.eligible = eligible
        labels = patches["annotated_area"].to_numpy(np.int64)
        self.areas = np.unique(labels[eligible])
        self._classes = torch.tensor(np.searchsorted(self.areas, labels), device=device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(block.seed + 1)
            self.head: nn.Module = nn.Linear(feature_dim, len(self.areas))
        self._last = (torch.zeros(()), torch.zeros(()))

    def loss(self, output: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Compute the cross-entropy of logits (B, areas)."""
        logits, classes = output.float(), self._classes[rows]
        batch_size = Layout.of(rows).total
        share = functional.cross_entropy(logits, classes, reduction="sum") / batch_size
        self._last = (share.detach(), (logits.argmax(1) == classes).sum() / batch_size)
        return share * world_size()

    @property
    def logged(self) -> torch.Tensor:
        """Loss of the last batch over all ranks."""
        return summed(self._last[0])

    def statistics(self) -> dict[str, float]:
        """Return the accuracy on the last batch."""
        return {"accuracy": float(summed(self._last[1]))}

    def save(self, path: Path) -> None:
        """Write the classifier: `weight` (areas, D), `bias`, and the list of areas as JSON metadata, `classes`."""
        weights = {name: value.detach().cpu().contiguous() for name, value in self.head.state_dict().items()}
        with atomic_file(path) as temporary:
            save_file(weights, temporary, metadata={"format": "pt", "classes": json.dumps(self.areas.tolist())})
