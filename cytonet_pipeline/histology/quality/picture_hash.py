"""Whether two scans show the same piece of tissue: difference hashes of their thumbnails.

A difference hash (dHash; N. Krawetz, "Kind of Like That", 2013) has one bit for each pair of neighbouring cells of a
coarse grid: which of the two is darker. It stays the same when brightness, contrast, compression or resolution change,
and here also when the tissue lies elsewhere in the picture, because the grid is laid over the tissue. It is not
invariant to rotation or mirroring.
"""

import numpy as np
from scipy import ndimage

from cytonet_pipeline.histology.quality.overview import Overview

_CELLS = 16
# Outside the tissue both cells of a pair are slide, and noise must not decide.
_LEAST_DIFFERENCE = 1.0


def picture_hash(overview: Overview) -> str | None:
    """Compute the difference hash of the tissue, 512 bits as 128 hex digits; None without tissue."""
    rows, columns = (np.flatnonzero(overview.tissue.any(axis=axis)) for axis in (1, 0))
    if rows.size == 0:
        return None
    box = overview.picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
    box = np.minimum(box, overview.background)
    cells = _coarse(box, _CELLS + 1)
    right = cells[:-1, 1:] - cells[:-1, :-1] > _LEAST_DIFFERENCE
    down = cells[1:, :-1] - cells[:-1, :-1] > _LEAST_DIFFERENCE
    return np.packbits(np.concatenate([right.ravel(), down.ravel()])).tobytes().hex()


def hash_distances(hashes: list[str]) -> np.ndarray:
    """Return the share of bits in which each pair of hashes differs, (N, N), 0 to 1."""
    if not hashes:
        return np.empty((0, 0))
    packed = np.array([np.frombuffer(bytes.fromhex(text), np.uint8) for text in hashes])
    bits = np.unpackbits(packed, axis=1).astype(np.float32)
    # |a xor b| = |a| + |b| - 2 a·b
    ones = bits.sum(axis=1)
    return np.asarray((ones[:, None] + ones[None, :] - 2 * bits @ bits.T) / bits.shape[1])


def _coarse(box: np.ndarray, cells: int) -> np.ndarray:
    """Average a picture over `cells` × `cells` equal parts, interpolated so that parts need not be whole pixels."""
    sums = np.pad(box, ((1, 0), (1, 0))).cumsum(0, dtype=np.float64).cumsum(1)
    edges = [np.linspace(0, edge, cells + 1) for edge in box.shape]
    grid = np.meshgrid(*edges, indexing="ij")
    corners = ndimage.map_coordinates(sums, grid, order=1, mode="nearest")
    whole = np.diff(np.diff(corners, axis=0), axis=1)
    return np.asarray(whole / (box.shape[0] * box.shape[1] / cells**2))
