"""Ids of patches and the orders that they stand in: the same in every run and on every machine.

Ids and rank keys are 64-bit hashes. Integers are mixed with SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable
pseudorandom number generators"), whose finaliser is a bijection of 64-bit words: two different positions in a section
never get the same id.

Rows follow a Morton curve: positions that are neighbours on the scan are mostly neighbours in the table. A reader that
walks along it meets the tiles of a scan in compact groups, so that a small cache of decoded tiles serves most patches.
"""

import hashlib

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_SPREADS = (
    (16, 0x0000FFFF0000FFFF),
    (8, 0x00FF00FF00FF00FF),
    (4, 0x0F0F0F0F0F0F0F0F),
    (2, 0x3333333333333333),
    (1, 0x5555555555555555),
)


def patch_ids(brain: str, sample: str, x_px: np.ndarray, y_px: np.ndarray) -> np.ndarray:
    """Return stable ids of the patches of one section.

    Parameters
    ----------
    x_px, y_px : (N,) integer arrays
        Patch centres in full-resolution pixels.

    Returns
    -------
    (N,) uint64 array
    """
    low = np.uint64(0xFFFFFFFF)
    packed = (_words(x_px) << np.uint64(32)) | (_words(y_px) & low)
    return splitmix64(splitmix64(packed) ^ np.uint64(hash_of_text(brain, sample)))


def order_of(patch_id: np.ndarray, seed: int) -> np.ndarray:
    """Return rank keys of patches: uniformly distributed over 64 bits and independent of position.

    Parameters
    ----------
    patch_id : (N,) uint64 array
    seed : int
        Another seed gives another order.

    Returns
    -------
    (N,) uint64 array
    """
    return splitmix64(np.asarray(patch_id, dtype=np.uint64) ^ np.uint64(hash_of_text("order", str(seed))))


def morton_of(x_px: np.ndarray, y_px: np.ndarray) -> np.ndarray:
    """Return the position along the Morton curve: the bits of x and y interleaved, those of y higher.

    Parameters
    ----------
    x_px, y_px : (N,) integer arrays
        0 to 2³² - 1.

    Returns
    -------
    (N,) uint64 array
    """
    return _spread(x_px) | (_spread(y_px) << np.uint64(1))


def splitmix64(words: np.ndarray) -> np.ndarray:
    """Return the first output of SplitMix64 for each state in `words` ((N,) uint64)."""
    with np.errstate(over="ignore"):
        z = words + _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * _FIRST
        z = (z ^ (z >> np.uint64(27))) * _SECOND
        return z ^ (z >> np.uint64(31))


def hash_of_text(*parts: str) -> int:
    """Return 64 bits of the SHA-256 of some texts, with their borders marked."""
    return int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:8], "big")


def _words(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.int64).view(np.uint64)


def _spread(values: np.ndarray) -> np.ndarray:
    bits = np.asarray(values).astype(np.uint64)
    for shift, mask in _SPREADS:
        bits = (bits | (bits << np.uint64(shift))) & np.uint64(mask)
    return bits
