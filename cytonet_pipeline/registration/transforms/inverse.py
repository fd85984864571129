"""Numerical inverses of maps of points: fixed-point steps, then damped Newton steps, many points at once."""

import numpy as np

from cytonet_pipeline.registration.transforms.jacobian import Map, jacobian

# Far below the 10 µm that a round trip may cost; far above the rounding of float64 at 100 mm.
_TOLERANCE_MM = 1e-5
_FIXED_POINT_STEPS = 12
# Beside a fold Newton's steps can circle; from a few millimetres away they mostly converge.
_RESTART_MM = 3.0
_NEWTON_STEPS = 40
_SHORTEST_STEP = 1 / 64
# Differences so short that they see single cells of a field's grid.
DIFFERENCE_MM = 1e-4


def solve(forward: Map, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find points x with forward(x) = target, (N, d); NaN where the iteration does not converge.

    `forward` moves points by little compared with the size of the space. Fixed-point steps x ← x − (forward(x) − y)
    come first: they are cheap and enough for gentle fields. The points that are left go through damped Newton steps
    with the Jacobian by central differences.

    Returns
    -------
    solution : (N, d) array
    unsolved : (M,) array
        Indices of the targets that `solve_from_nearby` may still solve.
    """
    solution, waiting = _fixed_point(forward, targets)
    if len(waiting):
        solution[waiting] = newton(forward, solution[waiting], targets[waiting])
    return solution, waiting[np.isnan(solution[waiting]).any(axis=1)]


def solve_from_nearby(forward: Map, targets: np.ndarray, solution: np.ndarray, unsolved: np.ndarray) -> None:
    """Solve what `solve` left unsolved by Newton steps from several starting points, and fill it into its solution."""
    for shift in _restarts(targets.shape[1]):
        if not len(unsolved):
            return
        nearby = targets[unsolved] + shift
        start = targets[unsolved] - (forward(nearby) - nearby)
        solution[unsolved] = newton(forward, start, targets[unsolved])
        unsolved = unsolved[np.isnan(solution[unsolved]).any(axis=1)]


def newton(forward: Map, start: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Find points x (N, d) with forward(x) = target by damped Newton steps from `start`; NaN where they diverge."""
    guess = start.copy()
    residual = forward(guess) - targets
    error = np.linalg.norm(residual, axis=1)
    active = np.flatnonzero(error > _TOLERANCE_MM)
    for _ in range(_NEWTON_STEPS):
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
        active = active[error[active] > _TOLERANCE_MM]
    guess[~(error <= _TOLERANCE_MM)] = np.nan
    return guess


def _newton_step(forward: Map, points: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """Return Jacobian⁻¹ · residual for each point; the plain residual where the Jacobian is singular."""
    matrices = jacobian(forward, points, step_mm=DIFFERENCE_MM)
    regular = np.abs(np.linalg.det(matrices)) > 1e-6
    safe = np.where(regular[:, None, None], matrices, np.eye(points.shape[1]))
    return np.linalg.solve(safe, residual[..., None])[..., 0]


def _restarts(dimension: int) -> np.ndarray:
    """Return shifts (mm) of the place whose displacement gives the next start, (2^d, d)."""
    return _RESTART_MM * np.array(np.meshgrid(*[(-1.0, 1.0)] * dimension)).reshape(dimension, -1).T


def _fixed_point(forward: Map, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the best points of the fixed-point steps, and the indices of those that have not converged."""
    best, best_error = targets.copy(), np.full(len(targets), np.inf)
    known = np.isfinite(targets).all(axis=1)
    best[~known] = np.nan
    active = np.flatnonzero(known)
    guess = targets[active]
    for _ in range(_FIXED_POINT_STEPS):
        residual = forward(guess) - targets[active]
        error = np.linalg.norm(residual, axis=1)
        better = error < best_error[active]
        best[active[better]], best_error[active[better]] = guess[better], error[better]
        unfinished = error > _TOLERANCE_MM
        active, guess = active[unfinished], guess[unfinished] - residual[unfinished]
        if not len(active):
            break
    return best, active[best_error[active] > _TOLERANCE_MM]
