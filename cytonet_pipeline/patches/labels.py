"""Which annotated patches are learned from, which decide on hyperparameters, and draws of a few per area.

Probes of features and encoders that are trained on a few labels ask here: in the same draw both get the same patches.
"""

import logging

import numpy as np
import pandas as pd

from cytonet_pipeline.store import digest_bytes

TEST_ROLES = ("seen_brains", "unseen_brain")
# Validation sections that cover a smaller share of the trained areas say too little about a choice.
_MIN_COVERED = 0.5
_CARVED_SHARE = 0.2
# Constants of splitmix64 (Steele, Lea, Flood 2014): a bijection of 64-bit numbers that scatters them.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)

_log = logging.getLogger(__name__)


def labelled_rows(rows: pd.DataFrame, samples_per_area: int) -> np.ndarray:
    """Return which rows the probes use: all annotated test patches, and a capped number per area for learning.

    Returns
    -------
    (N,) bool array
        Of the learning roles, those with the smallest `order`, `samples_per_area` per area and role.
    """
    annotated = (rows["annotated_area"] > 0).to_numpy()
    # Ranked as integers: as floats, orders that differ only in their last bits would be ties.
    rank = rows.groupby(["role", "annotated_area"])["order"].rank(method="first")
    few_enough = (rank <= samples_per_area).to_numpy()
    return annotated & (few_enough | rows["role"].isin(TEST_ROLES).to_numpy())


def split_for_training(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, str]:
    """Return which rows to train on and which to choose hyperparameters on.

    The latter are the validation blocks that were cut from training brains. Where these cover less than half of the
    trained areas, a fifth of the training sections of each brain is set aside instead: whole sections, but none without
    which an area would have no rows left to train on.

    Parameters
    ----------
    rows : DataFrame
        `brain`, `sample`, `role`, `annotated_area`.

    Returns
    -------
    train, validation : (N,) bool arrays
    source : str
        `validation` (sections of that role) or `carved` (from training sections); `training`, where no section can be
        spared and both are the same rows.
    """
    train = (rows["role"] == "train").to_numpy()
    areas = rows["annotated_area"].to_numpy()
    trained = np.unique(areas[train])
    validation = (rows["role"] == "validation").to_numpy() & np.isin(areas, trained)
    if len(np.unique(areas[validation])) >= _MIN_COVERED * len(trained) and validation.any():
        return train, validation, "validation"
    carved = _carved(rows, train)
    if not carved.any():
        _log.warning("no section can be spared for choosing hyperparameters: they are chosen on training rows")
        return train, train, "training"
    return train & ~carved, carved, "carved"


def draw_order(order: np.ndarray, draw: int) -> np.ndarray:
    """Return another random order of the same patches; for draw 0, `order` itself.

    Parameters
    ----------
    order : (N,) uint64 array
        Column `order` of the patch index.

    Returns
    -------
    (N,) uint64 array
        Distinct where `order` is.
    """
    if draw == 0:
        return order
    with np.errstate(over="ignore"):
        mixed = order + np.uint64(draw) * _GOLDEN
        mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
        mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    return mixed ^ (mixed >> np.uint64(31))


def labels_of_draw(rows: pd.DataFrame, labels_per_area: int, draw: int) -> np.ndarray:
    """Return which rows are labelled in a draw.

    A draw of ten labels per area lies within the same draw of a hundred, and both within all. Patches are taken from
    the brains in turn, and within a brain from its sections in turn: ten labels of one section would measure that
    section.

    Parameters
    ----------
    rows : DataFrame
        Rows that may be trained on: `brain`, `sample`, `annotated_area`, `order`.
    labels_per_area : int
        Most labels per area; 0: all.

    Returns
    -------
    (N,) bool array
    """
    if labels_per_area == 0:
        return np.ones(len(rows), dtype=bool)
    keys = rows[["brain", "sample", "annotated_area"]].reset_index(drop=True)
    keys["key"] = draw_order(rows["order"].to_numpy(np.uint64), draw)
    keys = keys.sort_values("key", kind="stable")
    # Each sort is stable, so that ties stay in the order of their key.
    keys["turn"] = keys.groupby(["annotated_area", "brain", "sample"]).cumcount()
    keys = keys.sort_values("turn", kind="stable")
    keys["turn"] = keys.groupby(["annotated_area", "brain"]).cumcount()
    keys = keys.sort_values("turn", kind="stable")
    taken = keys.groupby("annotated_area").cumcount() < labels_per_area
    return taken.sort_index().to_numpy()


def _carved(rows: pd.DataFrame, train: np.ndarray) -> np.ndarray:
    """Return which training rows are set aside, (N,) bool: whole sections, in an order that depends on names alone."""
    taken = np.zeros(len(rows), dtype=bool)
    left = rows["annotated_area"][train].value_counts()
    for brain, of_brain in rows[train].groupby("brain", sort=True):
        samples = sorted(of_brain["sample"].unique(), key=lambda sample: digest_bytes(f"{brain}/{sample}".encode()))
        wanted = max(1, round(_CARVED_SHARE * len(samples)))
        for sample in samples:
            of_sample = of_brain[of_brain["sample"] == sample]
            counts = of_sample["annotated_area"].value_counts()
            if wanted == 0 or (left[counts.index] <= counts).any():
                continue
            taken[of_sample.index] = True
            left[counts.index] -= counts
            wanted -= 1
    return taken
