"""What a training is watched for: does it learn areas, does it collapse, does it give away the brain.

On patches of validation sections that it does not train on, without augmentation, on features (not on projections).
"""

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from cytonet_pipeline.learning.augmentation import central_crop
from cytonet_pipeline.learning.losses import DistanceWeightedContrastiveLoss
from cytonet_pipeline.learning.measures import (
    effective_rank,
    knn_predict,
    mean_cosine,
    same_brain_excess,
    uniformity,
)
from cytonet_pipeline.learning.packing import PackedPatches
from cytonet_pipeline.settings import LossBlock

CAP = 2000
COLLAPSED_RANK = 5.0
COLLAPSED_COSINE = 0.95
_CHUNK = 500


class Watch:
    """A fixed sample of patches, looked at again and again.

    Parameters
    ----------
    patches : DataFrame
        The training set. Without validation sections the measures that need no labels look at training patches.
    """

    def __init__(self, patches: pd.DataFrame, pack: PackedPatches, work_px: int, loss: LossBlock) -> None:
        validation = (patches["role"] == "validation").to_numpy()
        annotated = (patches["annotated_area"] > 0).to_numpy()
        self._pack, self._work_px = pack, work_px
        self._order = patches["order"].to_numpy()
        self._rows = self._first(validation if validation.any() else ~validation)
        self._gallery = self._first(~validation & annotated)
        self._scored = annotated[self._rows] & validation[self._rows]
        self._labels = torch.tensor(patches["annotated_area"].to_numpy(np.int64))
        self._brains = torch.tensor(pd.factorize(patches["brain"], sort=True)[0])
        positions = torch.from_numpy(patches[["ref_x_mm", "ref_y_mm", "ref_z_mm"]].to_numpy(np.float32)[self._rows])
        like = DistanceWeightedContrastiveLoss(transfer=loss.transfer, length_mm=loss.length_mm, distance=loss.distance)
        self._weights = like.weight_of(like.distance_between(positions, positions)).fill_diagonal_(0)

    def look(self, encoder: torch.nn.Module, device: torch.device) -> dict[str, float]:
        """Columns of the history, from the encoder as it is; it is left in the mode it was in."""
        training = encoder.training
        encoder.eval()
        features = self._features(encoder, self._rows, device)
        brains = self._brains[self._rows]
        seen = {
            "effective_rank": effective_rank(features),
            "mean_cosine": mean_cosine(features),
            "alignment": self._alignment(features),
            "uniformity": uniformity(features),
            "same_brain_excess": same_brain_excess(features, brains),
        }
        if self._scored.any() and len(self._gallery):
            gallery = self._features(encoder, self._gallery, device)
            wanted = self._labels[self._rows[self._scored]]
            said = knn_predict(gallery, self._labels[self._gallery], features[torch.from_numpy(self._scored)])
            seen["knn_accuracy"] = float((said == wanted).double().mean())
        encoder.train(training)
        return seen

    def _first(self, wanted: np.ndarray) -> np.ndarray:
        rows = np.flatnonzero(wanted)
        return rows[np.argsort(self._order[rows], kind="stable")[:CAP]]

    def _features(self, encoder: torch.nn.Module, rows: np.ndarray, device: torch.device) -> torch.Tensor:
        parts = []
        with torch.no_grad():
            for start in range(0, len(rows), _CHUNK):
                patches = torch.from_numpy(self._pack.read(rows[start : start + _CHUNK])).to(device)
                parts.append(encoder(central_crop(patches, self._work_px)).float().cpu())
        return torch.cat(parts)

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
