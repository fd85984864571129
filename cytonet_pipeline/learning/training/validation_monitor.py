"""What a training is watched for: does it learn areas, does it collapse, does it give away the brain.

On patches of validation sections that it does not train on, without augmentation, on features (not on projections).
Every rank computes a part of the features, rank 0 the measures.
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


class Watch:
    """A fixed sample of patches, looked at again and again.

    Parameters
    ----------
    patches : DataFrame
        The training set. Without validation sections the measures that need no labels look at training patches.
    loss : DistanceWeightedContrastiveLoss
        Says by distance and transfer function which patches are near each other.
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
        self._rows = self._first(validation if validation.any() else ~validation)
        self._gallery = self._first(~validation & annotated)
        self._scored = annotated[self._rows] & validation[self._rows]
        self._labels = torch.tensor(patches["annotated_area"].to_numpy(np.int64))
        self._brains = torch.tensor(pd.factorize(patches["brain"], sort=True)[0])
        coordinates = torch.tensor(loss.distance.coordinates_of(patches.iloc[self._rows]))
        self._weights = loss.weights_between(coordinates, coordinates).fill_diagonal_(0)

    def look(self, encoder: Encoder, device: torch.device) -> dict[str, float]:
        """Columns of the history, from the encoder as it is; it is left in the mode it was in.

        Every rank calls it; those after the first get nothing.
        """
        scored = bool(self._scored.any()) and len(self._gallery) > 0
        training = encoder.training
        encoder.eval()
        features = self._features(encoder, self._rows, device)
        gallery = self._features(encoder, self._gallery, device) if scored else features[:0]
        encoder.train(training)
        return self._measures(features, gallery, scored=scored) if rank() == 0 else {}

    def _measures(self, features: torch.Tensor, gallery: torch.Tensor, *, scored: bool) -> dict[str, float]:
        seen = {
            "effective_rank": effective_rank(features),
            "mean_cosine": mean_cosine(features),
            "alignment": self._alignment(features),
            "uniformity": uniformity(features),
            "same_brain_excess": same_brain_excess(features, self._brains[self._rows]),
        }
        if scored:
            wanted = self._labels[self._rows[self._scored]]
            said = knn_predict(gallery, self._labels[self._gallery], features[torch.from_numpy(self._scored)])
            seen["knn_accuracy"] = float((said == wanted).double().mean())
        return seen

    def _first(self, wanted: np.ndarray) -> np.ndarray:
        rows = np.flatnonzero(wanted)
        return rows[np.argsort(self._order[rows], kind="stable")[:CAP]]

    def _features(self, encoder: Encoder, rows: np.ndarray, device: torch.device) -> torch.Tensor:
        own = np.array_split(rows, world_size())[rank()]
        parts = [
            self._part(encoder, own[start : start + self._chunk], device) for start in range(0, len(own), self._chunk)
        ]
        # A rank without rows must know how wide a feature is.
        features = torch.cat(parts) if parts else torch.empty(0, encoder.feature_dim, device=device)
        return Layout.of(features).gather(features).cpu()

    def _part(self, encoder: Encoder, rows: np.ndarray, device: torch.device) -> torch.Tensor:
        patches = torch.from_numpy(self._source.read(rows)).to(device)
        with torch.no_grad(), self._autocast:
            features: torch.Tensor = encoder(central_crop(patches, self._work_px))
        return features.float()

    def _alignment(self, features: torch.Tensor) -> float:
        """Mean squared distance on the sphere of patches that are near each other, weighted by g."""
        units = functional.normalize(features, dim=1)
        total = float(self._weights.sum())
        return float((self._weights * (2 - 2 * units @ units.T)).sum()) / total if total > 0 else float("nan")


def collapse_of(seen: dict[str, float]) -> list[str]:
    """What is wrong with features that were looked at after the warm-up; nothing if they have not collapsed."""
    problems = []
    if (rank := seen.get("effective_rank", np.inf)) < COLLAPSED_RANK:
        problems.append(f"collapsed: the features' effective rank is {rank:.1f} (below {COLLAPSED_RANK:g})")
    if (cosine := seen.get("mean_cosine", 0.0)) > COLLAPSED_COSINE:
        problems.append(f"collapsed: the features' mean cosine is {cosine:.3f} (above {COLLAPSED_COSINE:g})")
    return problems
