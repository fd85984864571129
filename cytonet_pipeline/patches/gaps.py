"""How much of the brain's length each section stands for.

Sections that are digitised lie unevenly: a dense run must not get more patches a mm³ of cortex than a sparse one.
"""

import numpy as np


def represented_mm(gaps_mm: np.ndarray) -> np.ndarray:
    """Length of the series that each section represents: half the gap to both neighbours.

    The half-gap of the first and the last section is mirrored outwards. A series without length represents 1 mm.

    Parameters
    ----------
    gaps_mm : (N - 1,) array
        Distances between neighbouring sections, in the order of the series.

    Returns
    -------
    (N,) array
        Lengths in mm.
    """
    if not np.any(gaps_mm > 0):
        return np.full(len(gaps_mm) + 1, 1.0 / (len(gaps_mm) + 1))
    return (np.append(gaps_mm[0], gaps_mm) + np.append(gaps_mm, gaps_mm[-1])) / 2


def plane_gaps_mm(centres_mm: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Distances between the planes of neighbouring sections.

    Measured along the mean normal of the two, not of the whole series: a section that is placed anew then alters the
    gaps to its two neighbours and no other.

    Parameters
    ----------
    centres_mm : (N, 3) array
        A point of each section in brain space, in the order of the series.
    normals : (N, 3) array
        Unit normals of the sections, of either sign.

    Returns
    -------
    (N - 1,) array
    """
    along = np.sign(np.einsum("ij,ij->i", normals[:-1], normals[1:]))[:, None]
    between = normals[:-1] + np.where(along < 0, -1.0, 1.0) * normals[1:]
    between /= np.linalg.norm(between, axis=1, keepdims=True)
    return np.abs(np.einsum("ij,ij->i", np.diff(centres_mm, axis=0), between))
