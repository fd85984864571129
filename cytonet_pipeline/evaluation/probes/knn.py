"""Areas by a vote of the nearest labelled patches: nothing is trained, so nothing can be tuned.

Cosine similarity, k = 20, votes weighted by exp(similarity / 0.07), as DINOv2 does it. For the control that knows
positions alone, neighbours are the nearest in millimetres: the angle between two positions says nothing.
"""

from dataclasses import dataclass

import numpy as np
import torch

from cytonet_pipeline.evaluation.probes.compute import compute_device
from cytonet_pipeline.evaluation.probes.linear import Labelled
from cytonet_pipeline.learning.measures import Metric, knn_probabilities

# A neighbour 2 mm farther away counts 1/e: less than half the width of an area of the cortex.
POSITION_TEMPERATURE_MM = 2.0


@dataclass(frozen=True)
class KnnHead:
    """Votes of the nearest labelled patches.

    Attributes
    ----------
    train : Labelled
        Patches that vote.
    k : int
        Neighbours asked; at most as many as there are.
    temperature : float or None
        Of the weights of cosine similarities; None: the features are positions, and the nearest in mm vote.
    """

    train: Labelled
    k: int
    temperature: float | None

    @property
    def classes(self) -> np.ndarray:
        """(C,) areas, ascending."""
        return np.unique(self.train.areas)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Share of the votes that each area gets, (N, C) float32; most get none."""
        device = compute_device()
        known, asked = (torch.from_numpy(a).to(device) for a in (self.train.features, features))
        areas = torch.from_numpy(self.train.areas.astype(np.int64)).to(device)
        metric: Metric = "cosine" if self.temperature else "euclidean"
        temperature = self.temperature or POSITION_TEMPERATURE_MM
        _, shares = knn_probabilities(known, areas, asked, self.k, temperature, metric=metric)
        return shares.cpu().numpy()
