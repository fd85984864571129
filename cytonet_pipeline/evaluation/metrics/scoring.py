"""Score predictions: count patches by area and group, and score the counts.

Scored are patches of areas that the classifier was trained on; other areas of a split are left out and counted by the
caller. The scores themselves are in `cytonet_pipeline.scores`.
"""

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score, precision_recall_fscore_support

from cytonet_pipeline.scores import SCORES, Counts

TOP = 5
_TERCILES = ("low", "middle", "high")


def scores(predictions: pd.DataFrame) -> dict[str, float]:
    """Score a set of predictions.

    Parameters
    ----------
    predictions : DataFrame
        `area`, `predicted_area`, and `in_top`: whether the area is among the five most probable.

    Returns
    -------
    dict
        Every score of `SCORES` by name; NaN without predictions.
    """
    if predictions.empty:
        return dict.fromkeys(SCORES, np.nan)
    one_group = np.zeros(len(predictions), dtype=np.int64)
    counts = count_patches(predictions, one_group, np.unique(predictions["area"]))
    return {name: float(values[0]) for name, values in counts.scores().items()}


def macro_f1(areas: np.ndarray, predicted: np.ndarray) -> float:
    """Return the macro F1 of predicted areas (N,), averaged over the areas that occur in `areas` (N,)."""
    return float(f1_score(areas, predicted, average="macro", labels=np.unique(areas), zero_division=0))


def count_patches(predictions: pd.DataFrame, groups: np.ndarray, areas: np.ndarray) -> Counts:
    """Count patches by area, separately for each group of patches.

    Parameters
    ----------
    predictions : DataFrame
        N rows with `area`, `predicted_area` and `in_top`.
    groups : (N,) int array
        Group of each patch, 0 … G-1.
    areas : (C,) int array
        Areas to count, ascending; other areas, annotated or predicted, are not counted.

    Returns
    -------
    Counts
        Arrays of (G, C), and (G,) for the top five.
    """
    n_groups = int(groups.max()) + 1 if len(groups) else 0
    true, predicted = predictions["area"].to_numpy(), predictions["predicted_area"].to_numpy()

    def tally(labels: np.ndarray, keep: np.ndarray) -> np.ndarray:
        keep = keep & np.isin(labels, areas)
        counts = np.zeros((n_groups, len(areas)))
        np.add.at(counts, (groups[keep], np.searchsorted(areas, labels[keep])), 1)
        return counts

    everywhere = np.ones(len(predictions), dtype=bool)
    return Counts(
        hits=tally(true, true == predicted),
        support=tally(true, everywhere),
        predicted=tally(predicted, everywhere),
        top=np.bincount(groups, predictions["in_top"].to_numpy(np.float64), minlength=n_groups),
    )


def in_top(probabilities: np.ndarray, classes: np.ndarray, areas: np.ndarray, k: int = TOP) -> np.ndarray:
    """Return whether fewer than `k` areas are more probable than the true one.

    An area without any probability is no hit, however few areas have some: in k-NN most areas get no vote, and ties at
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


def scores_by_obliquity(predictions: pd.DataFrame) -> pd.DataFrame:
    """Score each split in thirds of `obliquity_deg`: a tangential cut shows no layers.

    Parameters
    ----------
    predictions : DataFrame
        `split`, `area`, `predicted_area`, `in_top`, `obliquity_deg`; patches without an angle are left out.

    Returns
    -------
    DataFrame
        `split`, `tercile`, `from_deg`, `to_deg`, `n_patches` and the scores. Thirds are those of the split's patches.
    """
    rows = []
    for split, of_split in predictions.dropna(subset=["obliquity_deg"]).groupby("split", sort=True):
        angles = of_split["obliquity_deg"].to_numpy(np.float64)
        edges = np.quantile(angles, [0, 1 / 3, 2 / 3, 1])
        third = np.searchsorted(edges[1:3], angles, side="right")
        for number, name in enumerate(_TERCILES):
            of_third = of_split[third == number]
            bounds = {"from_deg": edges[number], "to_deg": edges[number + 1]}
            rows.append({"split": split, "tercile": name, **bounds, "n_patches": len(of_third), **scores(of_third)})
    return pd.DataFrame(rows)


def area_scores(predictions: pd.DataFrame, names: dict[int, str]) -> pd.DataFrame:
    """Return precision, recall and F1 of each area of each split (table `area_scores`)."""
    parts = [_areas_of_split(str(split), rows, names) for split, rows in predictions.groupby("split")]
    columns = ["split", "area", "name", "n_patches", "precision", "recall", "f1"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def confusion(predictions: pd.DataFrame) -> pd.DataFrame:
    """Count how often each area was predicted as each area: `split`, `area`, `predicted_area`, `n_patches`.

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
