"""k-nearest-neighbour classification: nothing is trained, so nothing can be tuned.

Cosine similarity, k = 20, votes weighted by exp(similarity / 0.07), as in DINOv2. For the control that knows positions
alone, neighbours are the nearest in millimetres: the angle between two positions means nothing.
"""

from dataclasses import dataclass

import numpy as np
import torch

from cytonet_pipeline.evaluation.probes.heads import Labelled
from cytonet_pipeline.learning.device import compute_device
from cytonet_pipeline.learning.measures import Metric, knn_probabilities
from cytonet_pipeline.settings import EvaluationBlock, Method

# A neighbour 2 mm farther away counts 1/e as much; 2 mm is less than half the width of a cortical area.
POSITION_TEMPERATURE_MM = 2.0


@dataclass(frozen=True)
class KnnHead:
    """Weighted vote of the nearest labelled patches.

    Attributes
    ----------
    train : Labelled
        Patches that vote.
    k : int
        Neighbours that vote; all patches where there are fewer.
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
        """Return each area's share of the votes, (N, C) float32; most areas get none."""
        device = compute_device()
        known, queries = (torch.from_numpy(a).to(device) for a in (self.train.features, features))
        areas = torch.from_numpy(self.train.areas.astype(np.int64)).to(device)
        metric: Metric = "cosine" if self.temperature else "euclidean"
        temperature = self.temperature or POSITION_TEMPERATURE_MM
        _, shares = knn_probabilities(known, areas, queries, self.k, temperature, metric=metric)
        return shares.cpu().numpy()


def fit_knn(train: Labelled, method: Method, block: EvaluationBlock) -> tuple[KnnHead, dict[str, object]]:
    """Make the k-NN classifier of an encoder, with a record of its settings."""
    temperature = None if method == "position" else block.knn_temperature
    return KnnHead(train, block.knn_k, temperature), {"k": block.knn_k, "temperature": temperature}
