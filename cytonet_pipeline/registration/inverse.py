"""Numerical inverses of displacement fields.

Only what has no inverse in closed form comes here. A given inverse (a file from the registration) is used instead where
there is one; `quality` measures how well the two agree.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from cytonet_pipeline.registration.transforms import PointTransform

if TYPE_CHECKING:
    from cytonet_pipeline.registration.transforms import Field

# Far below the 10 µm that a round trip may cost; far above the rounding of float64 at 100 mm.
_TOLERANCE_MM = 1e-5
_FIXED_POINT_STEPS = 12
_NEWTON_STEPS = 40
_DIFFERENCE_MM = 1e-4
_SHORTEST_STEP = 1 / 64
# Beside a fold Newton's steps can circle; from a few millimetres away they mostly arrive.
_RESTART_MM = 3.0

Map = Callable[[np.ndarray], np.ndarray]


class FieldInverse(PointTransform):
    """The inverse of a displacement field.

    The field is continued beyond its border for the search, so that the search meets no jump; a solution counts only
    where the field really is. A point that the field reaches from inside comes from there, also where it might as well
    have lain still outside. NaN where there is no solution: never a guess. Where a field folds there are several, and
    any of them may come back.
    """

    def __init__(self, field: "Field") -> None:
        self.field = field
        self.dimension = field.dimension

    def _map(self, points: np.ndarray) -> np.ndarray:
        solution = solve(self.field.continued, points)
        lies_still = ~self.field.covers(solution)
        # Not from inside: then the point has not moved, if it lies where the field is not.
        solution[lies_still] = np.where(self.field.covers(points[lies_still])[:, None], np.nan, points[lies_still])
        return solution

    def inverse(self) -> PointTransform:
        """The field that this inverts."""
        return self.field

    def to_json(self) -> dict[str, Any]:
        """What is inverted."""
        return {"kind": "numeric inverse", "of": self.field.to_json()}


def solve(forward: Map, targets: np.ndarray) -> np.ndarray:
    """Points x with forward(x) = target, (N, d); NaN where the iteration does not arrive.

    `forward` moves points by little compared with the size of the space. Fixed-point steps x ← x − (forward(x) − y)
    first, which are cheap and enough for gentle fields; the points that are left go through damped Newton steps with
    the Jacobian by central differences, from several starts.
    """
    solution, waiting = _fixed_point(forward, targets)
    start = solution[waiting]
    for shift in _restarts(targets.shape[1]):
        if not len(waiting):
            break
        solution[waiting] = _newton(forward, start, targets[waiting])
        waiting = waiting[np.isnan(solution[waiting]).any(axis=1)]
        nearby = targets[waiting] + shift
        start = targets[waiting] - (forward(nearby) - nearby)
    return solution


def _restarts(dimension: int) -> np.ndarray:
    """Shifts (mm) of the place whose displacement makes the next guess; after the last one a point is given up."""
    corners = np.array(np.meshgrid(*[(-1.0, 1.0)] * dimension)).reshape(dimension, -1).T
    return np.concatenate([_RESTART_MM * corners, np.zeros((1, dimension))])


def _fixed_point(forward: Map, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Best points found so far, and the indices of those that have not converged."""
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


def _newton(forward: Map, start: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Damped Newton steps for every point; NaN where they do not arrive."""
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
    """Jacobian⁻¹ · residual for each point; the plain residual where the Jacobian is singular."""
    columns = [
        (forward(points + step) - forward(points - step)) / (2 * _DIFFERENCE_MM)
        for step in _DIFFERENCE_MM * np.eye(points.shape[1])
    ]
    jacobian = np.stack(columns, axis=-1)
    sound = np.abs(np.linalg.det(jacobian)) > 1e-6
    safe = np.where(sound[:, None, None], jacobian, np.eye(points.shape[1]))
    return np.linalg.solve(safe, residual[..., None])[..., 0]
