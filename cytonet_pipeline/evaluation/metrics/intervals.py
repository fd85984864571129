"""95 % intervals by resampling whole blocks of contiguous sections.

Neighbouring sections show nearly the same tissue, so patches and even sections are not independent; blocks at least as
long as the gap between training and test are treated as independent. Blocks are drawn within each brain: the intervals
are conditional on the brains scored, and one unseen brain says nothing about the next.
"""

import numpy as np
import pandas as pd

from cytonet_pipeline.evaluation.metrics.scoring import count_patches

MIN_BLOCKS = 10
_LOW, _HIGH = 0.025, 0.975


def blocks_of_brain(positions_mm: np.ndarray, gap_mm: float) -> np.ndarray:
    """Cut the scored sections of one brain into blocks.

    Sections farther apart than the gap belong to different runs. A run is cut into as many blocks of equal length as
    possible that are at least as long as the gap; a shorter run is one block.

    Parameters
    ----------
    positions_mm : (S,) array
        Position of each section along the series.
    gap_mm : float
        Distance (brain mm) at which sections count as independent; at 0 every section is a block.

    Returns
    -------
    (S,) int array
        Number of the block of each section, from 0, in the order of positions.
    """
    order = np.argsort(positions_mm, kind="stable")
    sorted_mm = np.asarray(positions_mm, dtype=np.float64)[order]
    starts = np.flatnonzero(np.diff(sorted_mm, prepend=-np.inf) > gap_mm)
    blocks = np.empty(len(sorted_mm), dtype=np.int64)
    done = 0
    for start, end in zip(starts, [*starts[1:], len(sorted_mm)], strict=True):
        along_mm = sorted_mm[start:end] - sorted_mm[start]
        pieces = max(1, int(along_mm[-1] / gap_mm)) if gap_mm > 0 else 1
        length_mm = along_mm[-1] / pieces if along_mm[-1] > 0 else 1.0
        piece = np.minimum((along_mm / length_mm).astype(np.int64), pieces - 1)
        # Sparse runs leave pieces empty; number those that hold sections.
        blocks[order[start:end]] = done + np.unique(piece, return_inverse=True)[1]
        done += len(np.unique(piece))
    return blocks


def blocks_of(rows: pd.DataFrame, gap_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Assign the scored patches of several brains to blocks.

    Parameters
    ----------
    rows : DataFrame
        `brain`, `sample`, `position_mm` of each patch.

    Returns
    -------
    block : (N,) int array
        Number of each patch's block, from 0.
    brain : (B,) int array
        Number of the brain of each block.
    """
    sections = rows[["brain", "sample", "position_mm"]].drop_duplicates(["brain", "sample"]).reset_index(drop=True)
    sections["block"] = 0
    brain_of_block: list[int] = []
    for number, (_, of_brain) in enumerate(sections.groupby("brain", sort=True)):
        blocks = blocks_of_brain(of_brain["position_mm"].to_numpy(), gap_mm)
        sections.loc[of_brain.index, "block"] = blocks + len(brain_of_block)
        brain_of_block += [number] * (int(blocks.max()) + 1)
    block = rows[["brain", "sample"]].merge(sections, on=["brain", "sample"], how="left")["block"].to_numpy()
    return block, np.array(brain_of_block, dtype=np.int64)


def draw_blocks(brain_of_block: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Draw how often each block occurs in each of `n` resamplings; every brain keeps its number of blocks.

    Returns
    -------
    (n, B) int array
        Depends only on blocks and seed, so that encoders are scored on the same resamplings.
    """
    random = np.random.Generator(np.random.Philox(seed))
    times = np.zeros((n, len(brain_of_block)), dtype=np.int64)
    for brain in np.unique(brain_of_block):
        of_brain = np.flatnonzero(brain_of_block == brain)
        times[:, of_brain] = random.multinomial(len(of_brain), np.full(len(of_brain), 1 / len(of_brain)), size=n)
    return times


def resampled_medians(values: np.ndarray, block: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the median of values over resampled blocks.

    Parameters
    ----------
    values : (N,) array
    block : (N,) int array
        Block of each value.
    times : (R, B) int array
        How often each block occurs in each resampling.

    Returns
    -------
    (R,) float64 array
        Medians of the values repeated as often as their block occurs; NaN without any.
    """
    order = np.argsort(values, kind="stable")
    ordered, block_of = np.asarray(values, dtype=np.float64)[order], block[order]
    medians = np.full(len(times), np.nan)
    for number, of_draw in enumerate(times):
        reached = np.cumsum(of_draw[block_of])
        if len(reached) and (total := int(reached[-1])):
            middle = np.searchsorted(reached, [(total - 1) // 2, total // 2], side="right")
            medians[number] = ordered[middle].mean()
    return medians


def median_interval(rows: pd.DataFrame, gap_mm: float, n: int, seed: int) -> tuple[float, float]:
    """Return the 95 % interval of the median of `distance_mm`; NaN with fewer than ten blocks.

    Parameters
    ----------
    rows : DataFrame
        `brain`, `sample`, `position_mm`, `distance_mm`.
    """
    block, brain_of_block = blocks_of(rows, gap_mm)
    if len(brain_of_block) < MIN_BLOCKS or n == 0:
        return np.nan, np.nan
    medians = resampled_medians(rows["distance_mm"].to_numpy(), block, draw_blocks(brain_of_block, n, seed))
    low, high = np.quantile(medians, [_LOW, _HIGH])
    return float(low), float(high)


def share_interval(rows: pd.DataFrame, hits: np.ndarray, gap_mm: float, n: int, seed: int) -> tuple[float, float]:
    """Return the 95 % interval of the share of rows that are hits, (N,) bool; NaN with fewer than ten blocks.

    Parameters
    ----------
    rows : DataFrame
        `brain`, `sample`, `position_mm`.
    """
    if rows.empty or n == 0:
        return np.nan, np.nan
    block, brain_of_block = blocks_of(rows, gap_mm)
    if len(brain_of_block) < MIN_BLOCKS:
        return np.nan, np.nan
    times = draw_blocks(brain_of_block, n, seed)
    counted = [np.bincount(block, weights, minlength=len(brain_of_block)) for weights in (hits, np.ones(len(hits)))]
    # Every block holds rows, so no resampling is empty.
    low, high = np.quantile(times @ counted[0] / (times @ counted[1]), [_LOW, _HIGH])
    return float(low), float(high)


def intervals(predictions: pd.DataFrame, gap_mm: float, n: int, seed: int) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval of each score: percentiles over resampled blocks.

    Parameters
    ----------
    predictions : DataFrame
        One split: `brain`, `sample`, `position_mm`, `area`, `predicted_area`, `in_top`.
    n : int
        Resamplings; 0: no intervals.

    Returns
    -------
    dict
        Low and high end by score; empty with fewer than ten blocks.
    """
    block, brain_of_block = blocks_of(predictions, gap_mm)
    if len(brain_of_block) < MIN_BLOCKS or n == 0:
        return {}
    areas = np.unique(predictions["area"])
    drawn = count_patches(predictions, block, areas).resampled(draw_blocks(brain_of_block, n, seed)).scores()
    return {name: tuple(np.quantile(values, [_LOW, _HIGH]).tolist()) for name, values in drawn.items()}
