"""The validation monitor: whether an encoder learns areas, collapses, or gives away the brain, while it trains.

It measures patches of validation sections, which are not trained on, without augmentation, by their features and not
their projections. Every rank computes a part of the features, rank 0 the measures.
"""

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from cytonet_pipeline.learning.backbones.encoders import Encoder
from cytonet_pipeline.learning.data.augmentation import central_crop
from cytonet_pipeline.learning.data.sources import PatchSource
from cytonet_pipeline.learning.losses.contrastive import DistanceWeightedContrastiveLoss
from cytonet_pipeline.learning.measures import (
    effective_rank,
    knn_predict,
    mean_cosine,
    same_brain_excess,
    uniformity,
)
from cytonet_pipeline.learning.parallel.distributed import Layout, rank, world_size

CAP = 2000
COLLAPSED_RANK = 5.0
COLLAPSED_COSINE = 0.95
_CHUNK = 500
_CHUNK_PIXELS = 1 << 26


class ValidationMonitor:
    """Measures an encoder again and again on the same sample of patches.

    Parameters
    ----------
    patches : DataFrame
        The training set. Without validation sections, measures that need no labels are taken on training patches.
    loss : DistanceWeightedContrastiveLoss
        Decides by distance and transfer function which patches are neighbours.
    """

    def __init__(
        self,
        patches: pd.DataFrame,
        source: PatchSource,
        work_px: int,
        loss: DistanceWeightedContrastiveLoss,
        autocast: torch.autocast,
    ) -> None:
        validation = (patches["role"] == "validation").to_numpy()
        annotated = (patches["annotated_area"] > 0).to_numpy()
        self._source, self._work_px, self._autocast = source, work_px, autocast
        self._chunk = max(1, min(_CHUNK, _CHUNK_PIXELS // source.edge_px**2))
        self._order = patches["order"].to_numpy()
        self._measured = self._first(validation if validation.any() else ~validation)
        self._gallery = self._first(~validation & annotated)
        self._scored = annotated[self._measured] & validation[self._measured]
        self._labels = torch.tensor(patches["annotated_area"].to_numpy(np.int64))
        self._brains = torch.tensor(pd.factorize(patches["brain"], sort=True)[0])
        coordinates = torch.tensor(loss.distance.coordinates_of(patches.iloc[self._measured]))
        self._weights = loss.weights_between(coordinates, coordinates).fill_diagonal_(0)

    def measure(self, encoder: Encoder, device: torch.device) -> dict[str, float]:
        """Measure the encoder and return columns of the history.

        Every rank calls it; all but rank 0 get an empty dict. The encoder stays in its mode.
        """
        scored = bool(self._scored.any()) and len(self._gallery) > 0
        training = encoder.training
        encoder.eval()
        features = self._features(encoder, self._measured, device)
        gallery = self._features(encoder, self._gallery, device) if scored else features[:0]
        encoder.train(training)
        return self._measures(features, gallery, scored=scored) if rank() == 0 else {}

    def _measures(self, features: torch.Tensor, gallery: torch.Tensor, *, scored: bool) -> dict[str, float]:
        measures = {
            "effective_rank": effective_rank(features),
            "mean_cosine": mean_cosine(features),
            "alignment": self._alignment(features),
            "uniformity": uniformity(features),
            "same_brain_excess": same_brain_excess(features, self._brains[self._measured]),
        }
        if scored:
            annotated = self._labels[self._measured[self._scored]]
            predicted = knn_predict(gallery, self._labels[self._gallery], features[torch.from_numpy(self._scored)])
            measures["knn_accuracy"] = float((predicted == annotated).double().mean())
        return measures

    def _first(self, eligible: np.ndarray) -> np.ndarray:
        rows = np.flatnonzero(eligible)
        return rows[np.argsort(self._order[rows], kind="stable")[:CAP]]

    def _features(self, encoder: Encoder, rows: np.ndarray, device: torch.device) -> torch.Tensor:
        own = np.array_split(rows, world_size())[rank()]
        parts = [
            self._part(encoder, own[start : start + self._chunk], device) for start in range(0, len(own), self._chunk)
        ]
        # A rank without rows needs the number of dimensions all the same.
        features = torch.cat(parts) if parts else torch.empty(0, encoder.feature_dim, device=device)
        return Layout.of(features).gather(features).cpu()

    def _part(self, encoder: Encoder, rows: np.ndarray, device: torch.device) -> torch.Tensor:
        patches = torch.from_numpy(self._source.read(rows)).to(device)
        with torch.no_grad(), self._autocast:
            features: torch.Tensor = encoder(central_crop(patches, self._work_px))
        return features.float()

    def _alignment(self, features: torch.Tensor) -> float:
        """Return the mean squared distance on the sphere of neighbouring patches, weighted by g (Wang & Isola 2020)."""
        units = functional.normalize(features, dim=1)
        total = float(self._weights.sum())
        return float((self._weights * (2 - 2 * units @ units.T)).sum()) / total if total > 0 else float("nan")


def collapse_problems(measures: dict[str, float]) -> list[str]:
    """Return how the features have collapsed; empty if they have not."""
    problems = []
    if (rank := measures.get("effective_rank", np.inf)) < COLLAPSED_RANK:
        problems.append(f"collapsed: the features' effective rank is {rank:.1f} (below {COLLAPSED_RANK:g})")
    if (cosine := measures.get("mean_cosine", 0.0)) > COLLAPSED_COSINE:
        problems.append(f"collapsed: the features' mean cosine is {cosine:.3f} (above {COLLAPSED_COSINE:g})")
    return problems
