"""Scores of predictions: the columns of the table of results, and how each follows from counts of patches.

The one place that a score is added in: a function of `Counts` and an entry of `SCORES`. The contract of the table, the
intervals, and all text and figures that show scores read them from here. Results that were computed before show a new
score as missing until they are computed again.

Averages over areas (balanced accuracy, macro F1) run over the areas that occur among the scored patches: a patch
predicted as an area that does not occur there counts against the area that it belongs to.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Imported where it is used: Dagster's definitions read the contracts of tables, and load without numpy.
    import numpy as np
    import pandas as pd

# Protocols that need no label, and have no scores but a distance.
RETRIEVAL = "retrieval_"


@dataclass(frozen=True, eq=False)
class Counts:
    """Counts of patches by area (C), for any number of sets of patches: all that the scores follow from.

    Attributes
    ----------
    hits : (…, C) float array
        Patches of the area that were predicted as such.
    support : (…, C) float array
        Patches of the area.
    predicted : (…, C) float array
        Patches predicted as the area.
    top : (…,) float array
        Patches whose area is among the five most probable.
    """

    hits: "np.ndarray"
    support: "np.ndarray"
    predicted: "np.ndarray"
    top: "np.ndarray"

    def resampled(self, times: "np.ndarray") -> "Counts":
        """Return counts of R sets in which group g of G occurs `times[:, g]` times; `times` is (R, G)."""
        return Counts(times @ self.hits, times @ self.support, times @ self.predicted, times @ self.top)

    def scores(self) -> "dict[str, np.ndarray]":
        """Return every score by name, each (…,); 0 where nothing is counted."""
        return {name: score.of(self) for name, score in SCORES.items()}


@dataclass(frozen=True)
class Score:
    """A score of a set of predictions; 1 is perfect.

    Attributes
    ----------
    name : str
        Column of the table of results.
    title : str
        Name in figures and text.
    of : callable
        `Counts` (…, C) to values (…,).
    short : str
        Name at the head of a column, where the title is too long for it.
    lowest : float
        Lower end of the range.
    """

    name: str
    title: str
    of: "Callable[[Counts], np.ndarray]"
    short: str = ""
    lowest: float = 0.0

    @property
    def heading(self) -> str:
        """Name at the head of a column."""
        return self.short or self.title


def _accuracy(counts: Counts) -> "np.ndarray":
    return _ratio(counts.hits.sum(axis=-1), counts.support.sum(axis=-1))


def _balanced_accuracy(counts: Counts) -> "np.ndarray":
    """Mean recall of the areas with support."""
    return _ratio(_ratio(counts.hits, counts.support).sum(axis=-1), (counts.support > 0).sum(axis=-1))


def _macro_f1(counts: Counts) -> "np.ndarray":
    """Mean F1 of the areas with support."""
    present = counts.support > 0
    return _ratio((_f1(counts) * present).sum(axis=-1), present.sum(axis=-1))


def _weighted_f1(counts: Counts) -> "np.ndarray":
    """Mean F1 of the areas, weighted by their support."""
    return _ratio((_f1(counts) * counts.support).sum(axis=-1), counts.support.sum(axis=-1))


def _top5_accuracy(counts: Counts) -> "np.ndarray":
    return _ratio(counts.top, counts.support.sum(axis=-1))


def _f1(counts: Counts) -> "np.ndarray":
    return _ratio(2 * counts.hits, counts.support + counts.predicted)


def _ratio(above: "np.ndarray", below: "np.ndarray") -> "np.ndarray":
    import numpy as np

    above, below = np.broadcast_arrays(np.asarray(above, dtype=float), np.asarray(below, dtype=float))
    return np.divide(above, below, out=np.zeros(above.shape), where=below > 0)


SCORES: Mapping[str, Score] = {
    score.name: score
    for score in (
        Score("accuracy", "accuracy", _accuracy),
        Score("balanced_accuracy", "balanced accuracy", _balanced_accuracy, short="balanced"),
        Score("macro_f1", "macro F1", _macro_f1),
        Score("weighted_f1", "weighted F1", _weighted_f1),
        Score("top5_accuracy", "top-5 accuracy", _top5_accuracy, short="top 5"),
    )
}


def without_retrieval(metrics: "pd.DataFrame") -> "pd.DataFrame":
    """Return the rows of the table of results that come from predictions of areas."""
    return metrics[~metrics["protocol"].str.startswith(RETRIEVAL)]


def retrieval_only(metrics: "pd.DataFrame") -> "pd.DataFrame":
    """Return the rows of the table of results that need no label."""
    return metrics[metrics["protocol"].str.startswith(RETRIEVAL)]
