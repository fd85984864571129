"""Whether a transform puts a brain's cortex onto that of the reference, and if not, which mistake would explain it.

Points drawn from the cortex masks are mapped, and their distance from the ribbon between pial and white surface is
measured. The same is done for each candidate in `candidates`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cytonet_pipeline.registration.quality.candidates import LikelyMistake, candidate_corrections
from cytonet_pipeline.registration.reference.space import ReferenceSpace
from cytonet_pipeline.registration.transforms.point_transform import PointTransform

# The mean over this many points varies by a few per cent from draw to draw.
_MOST_POINTS = 4000
# One point far outside must not outweigh a hundred points that are slightly off.
_LONGEST_MM = 10.0
_SHIFT_MM = 2.0
# Measured with smooth random errors on three brains: 0.2 without error, 0.35 at 1 mm, 0.6 at 2 mm, 0.8 at 3 mm.
MISFIT_LIMIT = 0.62
_MISFIT_BEYOND_DOUBT = 0.3
_CLEARLY_BETTER = 0.7
# Of corrections that fit equally well the simplest is named: the order of two members moves points by 0.1 mm or so.
_AS_GOOD = 1.15
_AS_GOOD_MM = 0.01


@dataclass(frozen=True)
class CortexFit:
    """How well points of a brain's cortex fall onto the reference's.

    Attributes
    ----------
    distance_mm : float
        Mean distance from the ribbon (points within it count 0, none more than 10 mm).
    misfit : float
        `distance_mm` divided by its mean after shifts of 2 mm in six directions: near 0 for a transform that fits,
        near 1 for one that might as well be elsewhere. Being a ratio it is the same for thick and thin cortex, coarse
        and fine masks.
    """

    distance_mm: float
    misfit: float


def thin_out(points_mm: np.ndarray) -> np.ndarray:
    """Return as many points as a fit needs, evenly spread over the list and without NaN."""
    known = points_mm[np.isfinite(points_mm).all(axis=1)]
    return known[np.linspace(0, len(known) - 1, min(len(known), _MOST_POINTS)).astype(np.int64)]


def ribbon_distance_mm(reference: ReferenceSpace, points_mm: np.ndarray) -> float:
    """Return the mean distance of points from the cortical ribbon; points that are NaN count as far away."""
    distances = reference.cortex.locate(points_mm).ribbon_distance_mm
    return float(np.minimum(np.nan_to_num(distances, nan=_LONGEST_MM), _LONGEST_MM).mean())


def fit_cortex(reference: ReferenceSpace, mapped_mm: np.ndarray) -> CortexFit:
    """Measure the fit of points (N, 3), N > 0, that a transform brought into the reference space."""
    here = ribbon_distance_mm(reference, mapped_mm)
    shifts = _SHIFT_MM * np.concatenate([np.eye(3), -np.eye(3)])
    elsewhere = float(np.mean([ribbon_distance_mm(reference, mapped_mm + shift) for shift in shifts]))
    return CortexFit(here, here / elsewhere if elsewhere > 0 else 1.0)


def diagnose_misfit(
    transform: PointTransform,
    reference: ReferenceSpace,
    cortex_points_mm: np.ndarray,
    fit: CortexFit,
    others: Mapping[str, PointTransform],
) -> LikelyMistake | None:
    """Return the mistake whose correction fits, and clearly better than the transform as given; None if none does.

    Parameters
    ----------
    transform : PointTransform
        Brain to reference, as given.
    cortex_points_mm : (N, 3) array
        Points of the brain's cortex, brain mm.
    fit : CortexFit
        The fit of the transform as given.
    others : mapping
        Other brains' transforms to the reference, by name.
    """
    if fit.misfit < _MISFIT_BEYOND_DOUBT:
        return None
    middle_x_mm = float(np.quantile(cortex_points_mm[:, 0], [0.01, 0.99]).mean())
    candidates = candidate_corrections(transform, others, middle_x_mm)
    distances = np.array([ribbon_distance_mm(reference, c.transform(cortex_points_mm)) for c in candidates])
    as_good = distances <= _AS_GOOD * distances.min() + _AS_GOOD_MM
    chosen = min(np.flatnonzero(as_good), key=lambda i: (candidates[i].changes, distances[i]))
    correction, distance = candidates[chosen], float(distances[chosen])
    if distance >= _CLEARLY_BETTER * fit.distance_mm:
        return None
    if fit_cortex(reference, correction.transform(cortex_points_mm)).misfit >= MISFIT_LIMIT:
        return None
    figures = f"{fit.distance_mm:.2f} mm off as given, {distance:.2f} mm when corrected"
    return LikelyMistake(f"{correction.mistake} ({figures})", correction.to_fix, correction.transform)
