"""Small sets of labelled patches, for label efficiency.

A draw of ten an area lies within the same draw's hundred, and both within all. Patches are taken from the brains in
turn, and within a brain from its sections in turn: ten labels of one section would measure that section.
"""

import numpy as np
import pandas as pd

# Constants of splitmix64 (Steele, Lea, Flood 2014): a bijection of 64-bit numbers that scatters them.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def draw_order(order: np.ndarray, draw: int) -> np.ndarray:
    """Another random order of the same patches; that of draw 0 is `order` itself.

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
    """Which rows are labelled in a draw.

    Parameters
    ----------
    rows : DataFrame
        Rows that may be trained on: `brain`, `sample`, `annotated_area`, `order`.
    labels_per_area : int
        Labels an area at the most; 0: all.

    Returns
    -------
    (N,) bool array
    """
    if labels_per_area == 0:
        return np.ones(len(rows), dtype=bool)
    keys = rows[["brain", "sample", "annotated_area"]].reset_index(drop=True)
    keys["key"] = draw_order(rows["order"].to_numpy(np.uint64), draw)
    keys = keys.sort_values("key", kind="stable")
    # Each sort is stable, so that equals stay in the order of their key.
    keys["turn"] = keys.groupby(["annotated_area", "brain", "sample"]).cumcount()
    keys = keys.sort_values("turn", kind="stable")
    keys["turn"] = keys.groupby(["annotated_area", "brain"]).cumcount()
    keys = keys.sort_values("turn", kind="stable")
    taken = keys.groupby("annotated_area").cumcount() < labels_per_area
    return taken.sort_index().to_numpy()
