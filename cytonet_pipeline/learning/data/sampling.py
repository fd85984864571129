"""Which patches make up the batch of a step: a pure function of the seed and the step.

Each brain has permutations of its own, of which every batch takes a fixed share. A patch is seen again only after all
others of its brain, and a small brain is not lost beside a large one.

Where patches are read from the scans (`Shuffle`), a permutation keeps neighbours together: blocks of a section come in
random order, and patches are mixed only within a window of it. The window is cut from the permutation, not filled by a
reader, so that any batch can be computed without those before it.
"""

import threading
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cytonet_pipeline.learning.data.draws import keys
from cytonet_pipeline.patches import brain_shares
from cytonet_pipeline.patches.ids import morton_of

BLOCK = 16


@dataclass(frozen=True)
class Batch:
    """The samples of a step.

    Attributes
    ----------
    rows : (B,) int64 array
        Rows of the training set.
    sample_keys : (B,) uint64 array
        Key of each sample's augmentation, from seed, step, epoch of the brain, and patch.
    """

    step: int
    rows: np.ndarray
    sample_keys: np.ndarray

    def of_rank(self, rank: int, world_size: int) -> "Batch":
        """Return the part of one rank; every brain is spread over all ranks."""
        return self.take(slice(rank, None, world_size))

    def take(self, samples: np.ndarray | slice) -> "Batch":
        """Return some of the samples, or all in another order."""
        return Batch(self.step, self.rows[samples], self.sample_keys[samples])


@dataclass(frozen=True)
class Shuffle:
    """How patches that are read from the scans are mixed.

    Attributes
    ----------
    block : (N,) int64 array
        Block of each row: a few neighbours on one section, see `blocks_of`.
    buffer : int
        Samples of all brains together that are mixed with each other.
    """

    block: np.ndarray
    buffer: int


class BatchSampler:
    """Draws the batches of a training run. Thread-safe.

    Parameters
    ----------
    patch_id : (N,) uint64 array
        Id of each patch of the training set.
    brains : (N,) array or Series
        Brain of each patch.
    eligible : (N,) bool array
        Rows that may be drawn.
    brain_floor : float
        How far the shares of the brains go from natural (0) to equal (1), see `patches.brain_shares`.
    shuffle : Shuffle, optional
        Keeps neighbours together; default: all permutations are equally likely.
    """

    def __init__(
        self,
        patch_id: np.ndarray,
        brains: np.ndarray | pd.Series,
        eligible: np.ndarray,
        *,
        batch_size: int,
        steps: int,
        brain_floor: float,
        seed: int,
        shuffle: Shuffle | None = None,
    ) -> None:
        self._patch_id, self._seed, self._shuffle = patch_id, seed, shuffle
        codes, names = pd.factorize(brains, sort=True)
        drawn = np.unique(codes[eligible])
        self._rows = [np.flatnonzero(eligible & (codes == code)) for code in drawn]
        counts = pd.Series([len(rows) for rows in self._rows], index=[str(names[code]) for code in drawn])
        self.shares = {str(name): float(share) for name, share in brain_shares(counts, brain_floor).items()}
        self._quota = _quotas(np.array(list(self.shares.values())), batch_size, steps)
        self._before = np.cumsum(self._quota, axis=0) - self._quota
        self._orders: dict[tuple[int, int], np.ndarray] = {}
        self._ordering = threading.Lock()

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, over all ranks."""
        rows, epochs = zip(*(self._of_brain(brain, step) for brain in range(len(self._rows))), strict=True)
        chosen, epoch = np.concatenate(rows), np.concatenate(epochs)
        return Batch(step, chosen, keys("sample", self._seed, step, epoch, self._patch_id[chosen]))

    def _of_brain(self, brain: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        place = self._before[step, brain] + np.arange(self._quota[step, brain])
        epoch, index = np.divmod(place, len(self._rows[brain]))
        rows = np.empty(len(place), dtype=np.int64)
        for number in np.unique(epoch):
            here = epoch == number
            rows[here] = self._order(brain, int(number))[index[here]]
        return rows, epoch

    def _order(self, brain: int, epoch: int) -> np.ndarray:
        # Only a cache: which thread fills it, and when, changes no order.
        with self._ordering:
            if (brain, epoch) not in self._orders:
                recent = {key: order for key, order in self._orders.items() if key[0] != brain or key[1] >= epoch - 1}
                self._orders = {**recent, (brain, epoch): self._permuted(brain, epoch)}
            return self._orders[brain, epoch]

    def _permuted(self, brain: int, epoch: int) -> np.ndarray:
        rows = self._rows[brain]
        own = keys("order", self._seed, epoch, self._patch_id[rows])
        if self._shuffle is None:
            return rows[np.argsort(own)]
        by_block = np.argsort(keys("block", self._seed, epoch, self._shuffle.block[rows]), kind="stable")
        share = list(self.shares.values())[brain]
        window = np.empty(len(rows), dtype=np.int64)
        window[by_block] = np.arange(len(rows)) // max(1, round(share * self._shuffle.buffer))
        return rows[np.lexsort((own, window))]


def blocks_of(section: np.ndarray, x_px: np.ndarray, y_px: np.ndarray) -> np.ndarray:
    """Cut each section's patches into blocks of `BLOCK` neighbours along the Morton curve.

    Parameters
    ----------
    section, x_px, y_px : (N,) integer arrays
        Section and centre of each patch.

    Returns
    -------
    (N,) int64 array
        Number of each patch's block.
    """
    order = np.lexsort((morton_of(x_px, y_px), section))
    starts = np.flatnonzero(np.diff(section[order], prepend=-1))
    within = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    block = np.empty(len(order), dtype=np.int64)
    block[order] = np.cumsum(within % BLOCK == 0) - 1
    return block


def _quotas(shares: np.ndarray, batch_size: int, steps: int) -> np.ndarray:
    """Return the samples per step and brain (steps, brains), by systematic sampling, which keeps small shares too."""
    borders = np.concatenate([[0], np.cumsum(shares)])
    borders[-1] = 1
    # The golden ratio spreads the offsets of the steps evenly over 0..1.
    offset = (np.arange(max(steps, 1)) * 0.6180339887498949) % 1
    upto = np.ceil(borders[None] * batch_size - offset[:, None]).clip(0, batch_size).astype(np.int64)
    return np.diff(upto, axis=1)
