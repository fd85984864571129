"""The Morton curve: an order of positions in which neighbours on the scan are mostly neighbours in the table.

A reader that walks along it meets the tiles of a scan in compact groups, so that a small cache of decoded tiles serves
most of its patches.
"""

import numpy as np

_SPREADS = (
    (16, 0x0000FFFF0000FFFF),
    (8, 0x00FF00FF00FF00FF),
    (4, 0x0F0F0F0F0F0F0F0F),
    (2, 0x3333333333333333),
    (1, 0x5555555555555555),
)


def morton_of(x_px: np.ndarray, y_px: np.ndarray) -> np.ndarray:
    """Position along the Morton curve: the bits of x and y interleaved, those of y the higher ones.

    Parameters
    ----------
    x_px, y_px : (N,) integer arrays
        0 to 2³² - 1.

    Returns
    -------
    (N,) uint64 array
    """
    return _spread(x_px) | (_spread(y_px) << np.uint64(1))


def _spread(values: np.ndarray) -> np.ndarray:
    bits = np.asarray(values).astype(np.uint64)
    for shift, mask in _SPREADS:
        bits = (bits | (bits << np.uint64(shift))) & np.uint64(mask)
    return bits
