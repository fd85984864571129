"""The sections of a brain as a series: their positions along it, and those seen from the wrong side."""

from collections.abc import Mapping, Sequence

import numpy as np


def positions_mm(matrices: Sequence[np.ndarray], centres_mm: np.ndarray) -> np.ndarray:
    """Return the positions of sections along the direction of their series (brain mm), (N,).

    Parameters
    ----------
    matrices : sequence of (3, 4) arrays
        From scan mm to brain mm.
    centres_mm : (N, 2) array
        The middle of each scan (scan mm): sections that are tilted against each other intersect outside the tissue.
    """
    if not len(matrices):
        return np.empty(0)
    stacked = np.stack(list(matrices))
    middles = np.einsum("nij,nj->ni", stacked[:, :, :2], np.asarray(centres_mm, np.float64)) + stacked[:, :, 3]
    return np.asarray(middles @ principal_axis(_normals(stacked)))


def reflected(matrices: Mapping[str, np.ndarray]) -> list[str]:
    """List samples whose matrix shows the section from the opposite side of most sections of the brain.

    Decided by the sign of cross(column 1, column 2) · direction of the series, against the majority. With a tie there
    are none, and a brain that is mirrored as a whole cannot be detected this way.
    """
    if not matrices:
        return []
    normals = _normals(np.stack(list(matrices.values())))
    signs = np.sign(normals @ principal_axis(normals))
    majority = np.sign(signs.sum())
    return [sample for sample, sign in zip(matrices, signs, strict=True) if majority and sign == -majority]


def _normals(matrices: np.ndarray) -> np.ndarray:
    crossed = np.cross(matrices[:, :, 0], matrices[:, :, 1])
    return np.asarray(crossed / np.linalg.norm(crossed, axis=1, keepdims=True))


def principal_axis(normals: np.ndarray) -> np.ndarray:
    """Return the mean direction of normals (N, 3) regardless of their sign: the unit principal axis of n nᵀ."""
    _, vectors = np.linalg.eigh(normals.T @ normals)
    return np.asarray(vectors[:, -1])
