"""Random numbers as pure functions of their purpose.

A draw is a hash of (seed, step, patch …) and not the next number of a generator: it does not depend on the number of
ranks or threads, nor on where a killed training run was resumed.
"""

import numpy as np

from cytonet_pipeline.patches.ids import hash_of_text, splitmix64

_TWO_TO_24 = np.float32(1 << 24)


def keys(purpose: str, *words: int | np.ndarray) -> np.ndarray:
    """Hash words, or arrays of words that broadcast, into uint64 keys; keys of different purposes are unrelated."""
    key = np.atleast_1d(np.uint64(hash_of_text(purpose)))
    for word in words:
        key = splitmix64(key ^ splitmix64(np.atleast_1d(np.asarray(word)).astype(np.uint64)))
    return key


def uniforms(key: np.ndarray, n: int) -> np.ndarray:
    """Draw `n` uniform numbers in [0, 1) per key.

    Returns
    -------
    (len(key), n) float32 array
    """
    words = splitmix64(key[:, None] ^ splitmix64(np.arange(1, n + 1, dtype=np.uint64))[None])
    return (words >> np.uint64(40)).astype(np.float32) / _TWO_TO_24


def normals(purpose: str, seed: int, n: int) -> np.ndarray:
    """Draw `n` standard normal numbers (float32) by the Box-Muller transform."""
    u = uniforms(keys(purpose, seed), 2 * n)[0].astype(np.float64)
    # 1 - u lies in (0, 1]: the logarithm is finite.
    return (np.sqrt(-2 * np.log(1 - u[:n])) * np.cos(2 * np.pi * u[n:])).astype(np.float32)
