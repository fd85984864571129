"""The sections of a brain as a series: where each lies along it, and which are seen from the wrong side."""

from collections.abc import Mapping, Sequence

import numpy as np


def positions_mm(matrices: Sequence[np.ndarray], centres_mm: np.ndarray) -> np.ndarray:
    """Where sections lie along the direction of their series (brain mm), (N,).

    Parameters
    ----------
    matrices : sequence of (3, 4) arrays
        From scan mm to brain mm.
    centres_mm : (N, 2) array
        The middle of each scan (scan mm): sections that are tilted against each other cross outside the tissue.
    """
    if not len(matrices):
        return np.empty(0)
    stacked = np.stack(list(matrices))
    middles = np.einsum("nij,nj->ni", stacked[:, :, :2], np.asarray(centres_mm, np.float64)) + stacked[:, :, 3]
    return np.asarray(middles @ _direction(_normals(stacked)))


def reflected(matrices: Mapping[str, np.ndarray]) -> list[str]:
    """Samples whose matrix shows the plane from the other side than those of most sections of the brain.

    The sign of cross(column 1, column 2) · direction of the series, against the majority. A tie blames nobody, and a
    brain that is mirrored as a whole cannot be seen this way.
    """
    if not matrices:
        return []
    normals = _normals(np.stack(list(matrices.values())))
    signs = np.sign(normals @ _direction(normals))
    majority = np.sign(signs.sum())
    return [sample for sample, sign in zip(matrices, signs, strict=True) if majority and sign == -majority]


def _normals(matrices: np.ndarray) -> np.ndarray:
    crossed = np.cross(matrices[:, :, 0], matrices[:, :, 1])
    return np.asarray(crossed / np.linalg.norm(crossed, axis=1, keepdims=True))


def _direction(normals: np.ndarray) -> np.ndarray:
    """Mean direction of the normals whatever their sign: the principal axis of n nᵀ, a unit vector."""
    _, vectors = np.linalg.eigh(normals.T @ normals)
    return np.asarray(vectors[:, -1])
