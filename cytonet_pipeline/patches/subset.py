"""Nested subsets of patches: 200 thousand of a million, a million of ten million.

Within a brain `order` decides, between brains a divisor method: a larger subset never drops a patch of a smaller one.
"""

import numpy as np
import pandas as pd


def brain_shares(counts: pd.Series, brain_floor: float) -> pd.Series:
    """Return the proportions of the brains in a subset: between those in which they were sampled and equal ones.

    Every brain gets `brain_floor` of its equal share; the rest is distributed by size.

    Parameters
    ----------
    counts : Series
        Number of patches by brain.
    brain_floor : float
        0 keeps the proportions of `counts`, 1 makes all brains equal.

    Returns
    -------
    Series
        Shares by brain, which sum to 1.
    """
    return brain_floor / len(counts) + (1 - brain_floor) * counts / counts.sum()


def take_subset(frame: pd.DataFrame, n: int | None, brain_floor: float) -> pd.DataFrame:
    """Take the `n` patches with the smallest `order`, in the given proportions of the brains.

    Seats are allocated by Sainte-Laguë's divisors, which are house monotone: the subset of n is contained in that of
    n + 1. A brain that is used up leaves its seats to the others.

    Parameters
    ----------
    frame : DataFrame
        With `brain`, `order` and `patch_id`.
    n : int or None
        Number of patches; None or more than there are: all.
    brain_floor : float
        See `brain_shares`.

    Returns
    -------
    DataFrame
        Rows of `frame`, in its order.
    """
    if n is None or n >= len(frame):
        return frame
    by_order = np.lexsort((frame["patch_id"].to_numpy(), frame["order"].to_numpy()))
    brains = frame["brain"].iloc[by_order].reset_index(drop=True)
    rank = brains.groupby(brains, sort=False).cumcount().to_numpy()
    shares = brain_shares(brains.value_counts().sort_index(), brain_floor)
    divisor = (rank + 0.5) / brains.map(shares).to_numpy(np.float64)
    # Stable: of equal divisors the smaller `order` comes first, which depends on nothing but the patch.
    first = np.argsort(divisor, kind="stable")[:n]
    return frame.iloc[np.sort(by_order[first])]
