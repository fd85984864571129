"""Newton's method for maps of points, many points at once."""

from collections.abc import Callable

import numpy as np

# Far below the 10 µm that a round trip may cost; far above the rounding of float64 at 100 mm.
TOLERANCE_MM = 1e-5
_STEPS = 40
_DIFFERENCE_MM = 1e-4
_SHORTEST_STEP = 1 / 64

Map = Callable[[np.ndarray], np.ndarray]


def newton(forward: Map, start: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Points x (N, d) with forward(x) = target by damped Newton steps from `start`; NaN where they do not arrive."""
    guess = start.copy()
    residual = forward(guess) - targets
    error = np.linalg.norm(residual, axis=1)
    active = np.flatnonzero(error > TOLERANCE_MM)
    for _ in range(_STEPS):
        if not len(active):
            break
        waiting, step = active, _newton_step(forward, guess[active], residual[active])
        length = 1.0
        while len(waiting) and length >= _SHORTEST_STEP:
            trial = guess[waiting] - length * step
            trial_residual = forward(trial) - targets[waiting]
            trial_error = np.linalg.norm(trial_residual, axis=1)
            nearer = trial_error < error[waiting]
            taken = waiting[nearer]
            guess[taken], residual[taken], error[taken] = trial[nearer], trial_residual[nearer], trial_error[nearer]
            waiting, step = waiting[~nearer], step[~nearer]
            length /= 2
        # Those still waiting came no nearer in any step: they are stuck.
        active = np.setdiff1d(active, waiting, assume_unique=True)
        active = active[error[active] > TOLERANCE_MM]
    guess[~(error <= TOLERANCE_MM)] = np.nan
    return guess


def _newton_step(forward: Map, points: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """Jacobian⁻¹ · residual for each point; the plain residual where the Jacobian is singular."""
    jacobian = _jacobian(forward, points)
    sound = np.abs(np.linalg.det(jacobian)) > 1e-6
    safe = np.where(sound[:, None, None], jacobian, np.eye(points.shape[1]))
    return np.linalg.solve(safe, residual[..., None])[..., 0]


def determinants(forward: Map, points: np.ndarray) -> np.ndarray:
    """Determinant of the Jacobian at points (N, d), (N,); differences so short that they see single cells of a grid."""
    return np.linalg.det(_jacobian(forward, points))


def _jacobian(forward: Map, points: np.ndarray) -> np.ndarray:
    steps = _DIFFERENCE_MM * np.eye(points.shape[1])
    columns = [(forward(points + step) - forward(points - step)) / (2 * _DIFFERENCE_MM) for step in steps]
    return np.stack(columns, axis=-1)
