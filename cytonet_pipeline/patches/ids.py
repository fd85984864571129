"""Names of patches and their order: stable 64-bit hashes, the same in every run and on every machine.

Integers are mixed with SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators"), whose
finaliser is a bijection of 64-bit words: within a section two different positions never get the same id.
"""

import hashlib

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def patch_ids(brain: str, sample: str, x_px: np.ndarray, y_px: np.ndarray) -> np.ndarray:
    """Stable ids of the patches of one section.

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
    """Rank keys of patches: uniformly distributed over 64 bits and independent of position.

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


def splitmix64(words: np.ndarray) -> np.ndarray:
    """First output of SplitMix64 for each state in `words` ((N,) uint64)."""
    with np.errstate(over="ignore"):
        z = words + _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * _FIRST
        z = (z ^ (z >> np.uint64(27))) * _SECOND
        return z ^ (z >> np.uint64(31))


def hash_of_text(*parts: str) -> int:
    """64 bits of the SHA-256 of some texts, with their borders kept apart."""
    return int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:8], "big")


def _words(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.int64).view(np.uint64)
