"""Jacobians of maps of points, by central differences, and the share of points where a map folds space."""

import math
from collections.abc import Callable

import numpy as np

Map = Callable[[np.ndarray], np.ndarray]


def jacobian(forward: Map, points_mm: np.ndarray, *, step_mm: float) -> np.ndarray:
    """Return the Jacobian of a map at points (N, d), (N, d, d), by central differences of half-width `step_mm`.

    NaN where a neighbour has no image.
    """
    steps = step_mm * np.eye(points_mm.shape[1])
    columns = [(forward(points_mm + step) - forward(points_mm - step)) / (2 * step_mm) for step in steps]
    return np.stack(columns, axis=-1)


def jacobian_determinant(forward: Map, points_mm: np.ndarray, *, step_mm: float = 0.5) -> np.ndarray:
    """Return the determinant of the Jacobian at points (N, d), (N,); see `jacobian`."""
    return np.linalg.det(jacobian(forward, points_mm, step_mm=step_mm))


def folded_share(forward: Map, points_mm: np.ndarray, *, step_mm: float = 0.5) -> float:
    """Return the share of points where a transform turns space inside out.

    Parameters
    ----------
    points_mm : (N, 3) array
        Positions in the transform's source space.
    step_mm : float
        Half-width of the central differences. Below a tenth of the field's grid spacing the result only follows the
        interpolation.

    Returns
    -------
    float
        Share of points, 0 to 1, whose Jacobian determinant is not positive. NaN for no points.
    """
    if len(points_mm) == 0:
        return math.nan
    return float(np.mean(jacobian_determinant(forward, points_mm, step_mm=step_mm) <= 0))
