"""Numerical inverses of displacement fields.

Only what has no inverse in closed form comes here. A given inverse (a file from the registration) is used instead where
there is one; `quality` measures how well the two agree.
"""

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cytonet_pipeline.registration.transforms.folds import Folds
from cytonet_pipeline.registration.transforms.kinds import PointTransform
from cytonet_pipeline.registration.transforms.newton import TOLERANCE_MM, Map, newton

if TYPE_CHECKING:
    from cytonet_pipeline.registration.transforms.kinds import Field

_FIXED_POINT_STEPS = 12
# Beside a fold Newton's steps can circle; from a few millimetres away they mostly arrive.
_RESTART_MM = 3.0


class FieldInverse(PointTransform):
    """The inverse of a displacement field.

    The field is continued beyond its border for the search, so that the search meets no jump; a solution counts only
    where the field really is. A point that the field reaches from inside comes from there, also where it might as well
    have lain still outside. NaN where there is no solution, and where there are several because the field folds:
    never a guess.
    """

    def __init__(self, field: "Field") -> None:
        self.field = field
        self.dimension = field.dimension

    def _map(self, points: np.ndarray) -> np.ndarray:
        solution = solve(self.field.continued, points)
        covered = self._folds.cover(points, solution)
        lies_still = ~self.field.covers(solution)
        # Not from inside: then the point has not moved, if it lies where the field is not.
        solution[lies_still] = np.where(self.field.covers(points[lies_still])[:, None], np.nan, points[lies_still])
        solution[covered] = np.nan
        return solution

    @cached_property
    def _folds(self) -> Folds:
        return Folds(self.field)

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
        solution[waiting] = newton(forward, start, targets[waiting])
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
        unfinished = error > TOLERANCE_MM
        active, guess = active[unfinished], guess[unfinished] - residual[unfinished]
        if not len(active):
            break
    return best, active[best_error[active] > TOLERANCE_MM]
