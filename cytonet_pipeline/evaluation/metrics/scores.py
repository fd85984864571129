"""How good a set of predictions is.

Scored are patches of areas that the classifier was trained on; other areas of a split are left out and counted by the
caller. Averages over areas (balanced accuracy, macro F1) run over the areas that occur in the scored split: a patch
predicted as an area that does not occur there counts against the area that it belongs to.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_fscore_support

TOP = 5


@dataclass(frozen=True)
class Counts:
    """What all scores but the confusion matrix follow from: counts an area, for any number of groups of patches.

    Attributes
    ----------
    hits, support, predicted : (…, C) float arrays
        Patches of an area predicted as such, patches of the area, patches predicted as the area.
    top : (…,) float array
        Patches whose area is among the five most probable.
    """

    hits: np.ndarray
    support: np.ndarray
    predicted: np.ndarray
    top: np.ndarray

    @classmethod
    def by_group(cls, predictions: pd.DataFrame, groups: np.ndarray, areas: np.ndarray) -> "Counts":
        """Count `area`, `predicted_area` and `in_top` of predictions for each group 0 … G-1, over the given areas."""
        size = (int(groups.max()) + 1, len(areas)) if len(groups) else (0, len(areas))
        true, said = predictions["area"].to_numpy(), predictions["predicted_area"].to_numpy()

        def tally(labels: np.ndarray, keep: np.ndarray) -> np.ndarray:
            keep = keep & np.isin(labels, areas)
            counts = np.zeros(size)
            np.add.at(counts, (groups[keep], np.searchsorted(areas, labels[keep])), 1)
            return counts

        everywhere = np.ones(len(predictions), dtype=bool)
        top = np.bincount(groups, predictions["in_top"].to_numpy(np.float64), minlength=size[0])
        return cls(tally(true, true == said), tally(true, everywhere), tally(said, everywhere), top)

    def weighted(self, times: np.ndarray) -> "Counts":
        """Counts of samples in which group g occurs `times[:, g]` times; `times` is (R, G)."""
        return Counts(*(times @ part for part in (self.hits, self.support, self.predicted, self.top)))

    def scores(self) -> dict[str, np.ndarray]:
        """The five scores, each (…,): averages over areas with support, as `scores` does it."""
        total = self.support.sum(axis=-1)
        present = self.support > 0
        recall = _ratio(self.hits, self.support)
        f1 = _ratio(2 * self.hits, self.support + self.predicted)
        n_present = present.sum(axis=-1)
        return {
            "accuracy": _ratio(self.hits.sum(axis=-1), total),
            "balanced_accuracy": _ratio(recall.sum(axis=-1), n_present),
            "macro_f1": _ratio((f1 * present).sum(axis=-1), n_present),
            "weighted_f1": _ratio((f1 * self.support).sum(axis=-1), total),
            "top5_accuracy": _ratio(self.top, total),
        }


def scores(predictions: pd.DataFrame) -> dict[str, float]:
    """The five scores of a set of predictions, by scikit-learn.

    Parameters
    ----------
    predictions : DataFrame
        `area`, `predicted_area`, and `in_top`: whether the area is among the five most probable.

    Returns
    -------
    dict
        `accuracy`, `balanced_accuracy`, `macro_f1`, `weighted_f1`, `top5_accuracy`; NaN without predictions.
    """
    true, said = predictions["area"].to_numpy(), predictions["predicted_area"].to_numpy()
    if len(true) == 0:
        return dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "top5_accuracy"), np.nan)
    _, recall, f1, support = precision_recall_fscore_support(true, said, labels=np.unique(true), zero_division=0)
    return {
        "accuracy": float(np.mean(true == said)),
        "balanced_accuracy": float(np.mean(recall)),
        "macro_f1": float(np.mean(f1)),
        "weighted_f1": float(np.average(f1, weights=support)),
        "top5_accuracy": float(predictions["in_top"].mean()),
    }


def in_top(probabilities: np.ndarray, classes: np.ndarray, areas: np.ndarray, k: int = TOP) -> np.ndarray:
    """Whether fewer than `k` areas are more probable than the true one.

    An area that got no probability at all is no hit, however few areas got any: in k-NN most have no vote, and ties at
    zero would be hits by their place in the list.

    Parameters
    ----------
    probabilities : (N, C) array
    classes : (C,) array
        Ascending; every true area is among them.
    areas : (N,) array

    Returns
    -------
    (N,) bool array
    """
    own = np.take_along_axis(probabilities, np.searchsorted(classes, areas)[:, None], axis=1)
    return ((probabilities > own).sum(axis=1) < k) & (own[:, 0] > 0)


def area_scores(predictions: pd.DataFrame, names: dict[int, str]) -> pd.DataFrame:
    """Precision, recall and F1 of each area of each split (table `area_scores`)."""
    parts = [_areas_of_split(str(split), rows, names) for split, rows in predictions.groupby("split")]
    columns = ["split", "area", "name", "n_patches", "precision", "recall", "f1"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def confusion(predictions: pd.DataFrame) -> pd.DataFrame:
    """How many patches of each area were predicted as each area: `split`, `area`, `predicted_area`, `n_patches`.

    Pairs that never occur have no row.
    """
    pairs = predictions.groupby(["split", "area", "predicted_area"]).size()
    return pairs.rename("n_patches").reset_index()


def _areas_of_split(split: str, rows: pd.DataFrame, names: dict[int, str]) -> pd.DataFrame:
    areas = np.unique(rows["area"])
    precision, recall, f1, support = precision_recall_fscore_support(
        rows["area"], rows["predicted_area"], labels=areas, zero_division=np.nan
    )
    return pd.DataFrame(
        {
            "split": split,
            "area": areas,
            "name": [names.get(int(area), f"area {area}") for area in areas],
            "n_patches": support,
            "precision": precision,
            "recall": recall,
            "f1": f1,
        }
    )


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    above, below = np.broadcast_arrays(np.asarray(above, dtype=float), np.asarray(below, dtype=float))
    return np.divide(above, below, out=np.zeros(above.shape), where=below > 0)
