"""Two directions that are both given must undo each other; where they do not, which mistake in one of them explains it.

This sees mistakes that the fit to the cortex cannot: tenths of a millimetre.
"""

from dataclasses import dataclass

import numpy as np

from cytonet_pipeline.registration.quality.candidates import rearrangements
from cytonet_pipeline.registration.quality.cortex_fit import Explanation
from cytonet_pipeline.registration.transforms.kinds import PointTransform

# Inverses that registrations write agree to a tenth of a voxel (ANTs pair: 0.08 mm); a right one is not doubted below.
DOUBTFUL_MM = 0.1
_SHARE_LEFT = 0.5
# There and back is smooth: so many points show it, and some candidates are slow to invert.
_POINTS = 1000


@dataclass(frozen=True)
class RoundTrip:
    """Distances between points and the same points there and back.

    Attributes
    ----------
    p95_mm : float
        95th percentile; NaN if no point comes back.
    lost : int
        Points that do not come back because there is no inverse there.
    """

    p95_mm: float
    lost: int


def round_trip(forward: PointTransform, backward: PointTransform, points_mm: np.ndarray) -> RoundTrip:
    """Follow points (N, 3) of the brain to the reference and back."""
    off_mm = np.linalg.norm(backward(forward(points_mm)) - points_mm, axis=1)
    came_back = np.isfinite(off_mm)
    p95_mm = float(np.quantile(off_mm[came_back], 0.95)) if came_back.any() else float("nan")
    return RoundTrip(p95_mm, int((~came_back).sum()))


def explain_round_trip(
    forward: PointTransform, backward: PointTransform, points_mm: np.ndarray, given: RoundTrip
) -> Explanation | None:
    """The mistake in one of the two whose correction lets them undo each other; None if none does.

    Where a mistake in either would explain it, both are told: the points alone cannot say which file is wrong.
    """
    if not given.p95_mm > DOUBTFUL_MM:
        return None
    points = points_mm[:: max(1, len(points_mm) // _POINTS)]
    pairs = [("from-brain_to-MNIColin27", c, c.transform, backward) for c in rearrangements(forward)]
    pairs += [("from-MNIColin27_to-brain", c, forward, c.transform) for c in rearrangements(backward)]
    rests = np.array([round_trip(there, back, points).p95_mm for _, _, there, back in pairs])
    good = np.flatnonzero(rests < _SHARE_LEFT * given.p95_mm)
    if len(good) == 0:
        return None
    best = [i for i in good if rests[i] <= rests[good].min() + DOUBTFUL_MM / 10]
    fewest = min(pairs[i][1].changes for i in best)
    named = [pairs[i] for i in best if pairs[i][1].changes == fewest]
    clauses = " or ".join(f"in {name} {correction.mistake}" for name, correction, *_ in named)
    figures = f"{given.p95_mm:.2f} mm there and back, {rests[good].min():.2f} mm so"
    return Explanation(f"{clauses} ({figures})", named[0][1].to_fix)
