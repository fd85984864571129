"""Whether a transform and the inverse given with it undo each other, and if not, which mistake would explain it.

This reveals mistakes that the fit to the cortex cannot: tenths of a millimetre.
"""

from dataclasses import dataclass

import numpy as np

from cytonet_pipeline.registration.quality.candidates import LikelyMistake, rearrangements
from cytonet_pipeline.registration.transforms.point_transform import PointTransform

# Inverses that registration programs write agree to a tenth of a voxel (ANTs pair: 0.08 mm).
DOUBTFUL_MM = 0.1
_LARGEST_REMAINING_SHARE = 0.5
# The error of a round trip is smooth: this many points show it, and some candidates are slow to invert.
_POINTS = 1000


@dataclass(frozen=True)
class RoundTrip:
    """Distances between points and the same points after a round trip.

    Attributes
    ----------
    p95_mm : float
        95th percentile of the distance; NaN if no point comes back.
    lost : int
        Number of points that do not come back because there is no inverse there.
    """

    p95_mm: float
    lost: int


def measure_round_trip(forward: PointTransform, backward: PointTransform, points_mm: np.ndarray) -> RoundTrip:
    """Map points (N, 3) of the brain to the reference and back, and measure how far off they return."""
    off_mm = np.linalg.norm(backward(forward(points_mm)) - points_mm, axis=1)
    came_back = np.isfinite(off_mm)
    p95_mm = float(np.quantile(off_mm[came_back], 0.95)) if came_back.any() else float("nan")
    return RoundTrip(p95_mm, int((~came_back).sum()))


def diagnose_round_trip(
    forward: PointTransform, backward: PointTransform, points_mm: np.ndarray, given: RoundTrip
) -> LikelyMistake | None:
    """Return the mistake in either transform whose correction lets them undo each other; None if none does.

    Where a mistake in either would explain it, both are named: the points alone cannot tell which file is wrong.
    """
    if not given.p95_mm > DOUBTFUL_MM:
        return None
    points = points_mm[:: max(1, len(points_mm) // _POINTS)]
    pairs = [("from-brain_to-MNIColin27", c, c.transform, backward) for c in rearrangements(forward)]
    pairs += [("from-MNIColin27_to-brain", c, forward, c.transform) for c in rearrangements(backward)]
    remaining_mm = np.array([measure_round_trip(there, back, points).p95_mm for _, _, there, back in pairs])
    good = np.flatnonzero(remaining_mm < _LARGEST_REMAINING_SHARE * given.p95_mm)
    if len(good) == 0:
        return None
    best = [i for i in good if remaining_mm[i] <= remaining_mm[good].min() + DOUBTFUL_MM / 10]
    fewest = min(pairs[i][1].changes for i in best)
    named = [pairs[i] for i in best if pairs[i][1].changes == fewest]
    clauses = " or ".join(f"in {name} {correction.mistake}" for name, correction, *_ in named)
    figures = f"{given.p95_mm:.2f} mm off after a round trip, {remaining_mm[good].min():.2f} mm when corrected"
    return LikelyMistake(f"{clauses} ({figures})", named[0][1].to_fix)
