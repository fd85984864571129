"""Which parts of a scan its digest covers: all of a small one, samples of a large one."""

import numpy as np

SAMPLED_BYTES = 1 << 18
_SAMPLED_CHUNKS = 64
_SMALL_BYTES = 16 << 20


def is_small(size: int) -> bool:
    """Whether a scan of `size` bytes counts whole."""
    return size <= _SMALL_BYTES


def sampled(count: int) -> list[int]:
    """Return the numbers of up to 64 of `count` chunks, spread evenly, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, _SAMPLED_CHUNKS).astype(int)).tolist() if count else []
