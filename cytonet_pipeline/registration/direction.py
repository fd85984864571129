"""Does a transform put a brain's cortex onto the reference's, and if not, which mistake would explain it.

Points drawn from the cortex masks are mapped and measured against the ribbon between pial and white surface. The same
is done for the mistakes that people make: the other direction, LPS for RAS, another brain's file.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cytonet_pipeline.registration.reference import ReferenceSpace
from cytonet_pipeline.registration.transforms import Affine, Chain, PointTransform

# The mean over so many points varies by a few per cent from draw to draw.
_MOST_POINTS = 4000
# One point far outside must not outweigh a hundred that are slightly off.
_LONGEST_MM = 10.0
_SHIFT_MM = 2.0
# Measured with smooth random errors on three brains: 0.2 without error, 0.35 at 1 mm, 0.6 at 2 mm, 0.8 at 3 mm.
MISFIT_LIMIT = 0.62
_MISFIT_BEYOND_DOUBT = 0.3
_CLEARLY_BETTER = 0.7


@dataclass(frozen=True)
class CortexFit:
    """How well points of a brain's cortex fall onto the reference's.

    Attributes
    ----------
    distance_mm : float
        Mean distance from the ribbon (points within it count 0, none more than 10 mm).
    misfit : float
        `distance_mm` over its mean after shifts of 2 mm along six directions: near 0 for a transform that fits, near 1
        for one that might as well lie elsewhere. Being a ratio it is the same for thick and thin cortex, coarse and
        fine masks.
    """

    distance_mm: float
    misfit: float


def thinned(points_mm: np.ndarray) -> np.ndarray:
    """Evenly spread over the list, as many points as a fit needs; without NaN."""
    known = points_mm[np.isfinite(points_mm).all(axis=1)]
    return known[np.linspace(0, len(known) - 1, min(len(known), _MOST_POINTS)).astype(np.int64)]


def ribbon_distance_mm(reference: ReferenceSpace, points_mm: np.ndarray) -> float:
    """Mean distance of points from the cortical ribbon; points that are NaN count as far away."""
    distances = reference.cortex.locate(points_mm).ribbon_distance_mm
    return float(np.minimum(np.nan_to_num(distances, nan=_LONGEST_MM), _LONGEST_MM).mean())


def fit_cortex(reference: ReferenceSpace, mapped_mm: np.ndarray) -> CortexFit:
    """Fit of points that a transform brought into the reference space, (N, 3) with N > 0."""
    here = ribbon_distance_mm(reference, mapped_mm)
    shifts = _SHIFT_MM * np.concatenate([np.eye(3), -np.eye(3)])
    elsewhere = float(np.mean([ribbon_distance_mm(reference, mapped_mm + shift) for shift in shifts]))
    return CortexFit(here, here / elsewhere if elsewhere > 0 else 1.0)


def explain_misfit(
    transform: PointTransform,
    reference: ReferenceSpace,
    cortex_points_mm: np.ndarray,
    fit: CortexFit,
    others: Mapping[str, PointTransform],
) -> str | None:
    """The mistake whose correction fits clearly better than the transform as given, as a sentence; None if none does.

    Parameters
    ----------
    transform : PointTransform
        Brain to reference, as given.
    cortex_points_mm : (N, 3) array
        Points of the brain's cortex, brain mm.
    fit : CortexFit
        The fit of the transform as given.
    others : mapping
        Transforms to the reference that other brains have, by name.
    """
    if fit.misfit < _MISFIT_BEYOND_DOUBT:
        return None
    best, explanation = _CLEARLY_BETTER * fit.distance_mm, None
    for sentence, corrected in _corrections(transform, others).items():
        distance = ribbon_distance_mm(reference, corrected(cortex_points_mm))
        if distance < best:
            best, explanation = distance, f"{sentence} ({fit.distance_mm:.2f} mm off as given, {distance:.2f} mm so)"
    return explanation


def _corrections(transform: PointTransform, others: Mapping[str, PointTransform]) -> dict[str, PointTransform]:
    """What would be right if a mistake had been made, by the sentence that tells the mistake."""
    flip = Affine(np.diag([-1.0, -1.0, 1.0, 1.0]))
    mirror = Affine(np.diag([-1.0, 1.0, 1.0, 1.0]))
    corrections: dict[str, PointTransform] = {
        "the transform is given backwards: the file holds from-MNIColin27_to-brain, its inverse fits": (
            transform.inverse()
        ),
        "the transform was written for RAS but stands in an ITK file, which is LPS: exchanging them fits": Chain(
            [flip, transform, flip]
        ),
        "the matrices of the sections lead to LPS instead of RAS: flipping x and y of the brain fits": Chain(
            [flip, transform]
        ),
        "the transform leads to LPS instead of RAS: flipping x and y of its result fits": Chain([transform, flip]),
        "left and right of the brain are exchanged: mirroring it fits": Chain([mirror, transform]),
        "the transform makes it worse: no transform at all fits better": Affine(np.eye(4)),
    }
    for name, other in others.items():
        corrections[f"the transform belongs to another brain: that of sub-{name} fits"] = other
        corrections[f"the transform belongs to another brain, that of sub-{name} fits, given backwards"] = (
            other.inverse()
        )
    return corrections
