"""How far to trust a brain's chain: folding, round trip, fit to the reference's cortex, and the series of sections.

Numbers here, what follows from them in `verdict`; pictures are `reporting`'s. A chain that fails is reported, nothing
here raises for bad data.

Caveat: the thresholds of this room (misfit, round trip, share of mirrored areas) were set on the data sets on which the
tests then try them: three brains with the anatomy of Colin-27 and one pair of ANTs files. On other brains they are a
start; docs/transforms.md has the figures behind each.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cytonet_pipeline.registration.chain.brain_chain import BrainChain
from cytonet_pipeline.registration.chain.placement import reflected_sections
from cytonet_pipeline.registration.quality.cortex_fit import CortexFit, explain_misfit, fit_cortex, thinned
from cytonet_pipeline.registration.quality.diagnosis import Explanations, notes_on, problems_of
from cytonet_pipeline.registration.quality.hemispheres import (
    AnnotatedPoints,
    HemisphereFit,
    explain_mirrored,
    fit_hemispheres,
)
from cytonet_pipeline.registration.quality.round_trip import RoundTrip, explain_round_trip, round_trip
from cytonet_pipeline.registration.reference.space import ReferenceSpace
from cytonet_pipeline.registration.transforms.kinds import PointTransform

# The cortex of the atlas ends within a voxel or two of that of a mask: so near a label still counts as hit.
_ON_CORTEX_MM = 2.0
_PERCENTILES = (1, 5, 50, 95, 99)


@dataclass(frozen=True)
class DirectionQuality:
    """One direction of a chain in numbers.

    Attributes
    ----------
    jacobian_min : float
        Least Jacobian determinant over the cortex.
    jacobian_percentiles : dict of float
        By percentile: 1, 5, 50, 95, 99.
    folded_share : float
        Share of points where the determinant is not positive.
    unmapped_share : float
        Share of points that have no image.
    inside_template_share, inside_brain_share, on_cortex_share, labelled_share : float
        Share of the brain's cortex points that fall into the template's volume, into its brain mask, within 2 mm of the
        cortical ribbon, and onto a cortical label of the atlas.
    ribbon_distance_mm, misfit : float
        See `direction.CortexFit`.
    """

    jacobian_min: float
    jacobian_percentiles: dict[int, float]
    folded_share: float
    unmapped_share: float
    inside_template_share: float
    inside_brain_share: float
    on_cortex_share: float
    labelled_share: float
    ribbon_distance_mm: float
    misfit: float

    def as_dict(self, prefix: str = "") -> dict[str, Any]:
        """Flat, one number an entry."""
        flat = {name: value for name, value in dataclasses.asdict(self).items() if name != "jacobian_percentiles"}
        flat |= {f"jacobian_p{percent:02d}": value for percent, value in self.jacobian_percentiles.items()}
        return {f"{prefix}{name}": value for name, value in flat.items()}


@dataclass(frozen=True)
class ChainQuality:
    """Quality of a chain in numbers, and what follows from them.

    Attributes
    ----------
    points : int
        Points of the brain's cortex on which it was measured.
    given : DirectionQuality
        Of brain → reference.
    opposite : DirectionQuality
        Of reference → brain: the Jacobian where the cortex lies in the reference, the shares as if it were the
        transform to the reference. A chain that is the wrong way round has the better figures here.
    round_trip : RoundTrip
        There and back.
    hemispheres : HemisphereFit
        Left and right against annotations and surfaces.
    in_plane_scale : dict
        Brain mm a scan mm, by sample.
    reflected : tuple of str
        Samples seen from the other side than most.
    largest_gap_mm, median_gap_mm : float
        Distances of neighbouring sections along the series, in the middle of the cortex.
    problems, notes : tuple of str
        What makes the chain unfit for use, and what to look at; each with the file and what to do.
    """

    brain: str
    points: int
    given: DirectionQuality
    opposite: DirectionQuality
    round_trip: RoundTrip
    hemispheres: HemisphereFit
    in_plane_scale: dict[str, float]
    reflected: tuple[str, ...]
    largest_gap_mm: float
    median_gap_mm: float
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing forbids using the chain."""
        return not self.problems

    @property
    def description(self) -> str:
        """The verdict in words."""
        return "\n".join(self.problems) or f"sub-{self.brain}: the chain to MNIColin27 fits."

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON can hold it; numbers that were not measured are None."""
        flat = {
            "brain": self.brain,
            "points": self.points,
            **self.given.as_dict(),
            **self.opposite.as_dict("opposite_"),
            "round_trip_mm_p95": self.round_trip.p95_mm,
            "lost_points": self.round_trip.lost,
            "lost_share": self.round_trip.lost / self.points if self.points else math.nan,
            **dataclasses.asdict(self.hemispheres),
            "probably_mirrored": self.hemispheres.mirrored,
            "in_plane_scale": self.in_plane_scale,
            "reflected": list(self.reflected),
            "largest_gap_mm": self.largest_gap_mm,
            "median_gap_mm": self.median_gap_mm,
            "problems": list(self.problems),
            "notes": list(self.notes),
            "passed": self.passed,
        }
        return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in flat.items()}


def measure_chain(
    chain: BrainChain,
    reference: ReferenceSpace,
    cortex_points_mm: np.ndarray,
    *,
    annotated: AnnotatedPoints | None = None,
    others: Mapping[str, PointTransform] | None = None,
) -> ChainQuality:
    """Measure a chain on points of the brain's own cortex.

    Parameters
    ----------
    cortex_points_mm : (N, 3) array
        Brain mm, drawn from masks that were *not* derived from the reference through this very chain: those would fit
        whatever the chain. Empty: the direction cannot be checked, which is noted.
    annotated : AnnotatedPoints, optional
        What was annotated where: tells a brain that is mirrored as a whole.
    others : mapping, optional
        Transforms to the reference of other brains, by name: with them a chain that belongs to one of them is named.
    """
    points = thinned(np.asarray(cortex_points_mm, dtype=np.float64).reshape(-1, 3))
    mapped = chain.brain_to_reference(points)
    gaps = np.diff(np.sort(list(chain.positions_mm(_middle(points)).values())))
    measured = ChainQuality(
        brain=chain.brain,
        points=len(points),
        given=_direction(chain.to_reference, reference, points, jacobian_at=points),
        opposite=_direction(chain.from_reference, reference, points, jacobian_at=mapped),
        round_trip=round_trip(chain.to_reference, chain.from_reference, points),
        hemispheres=fit_hemispheres(chain.to_reference, reference, mapped, annotated or AnnotatedPoints.none()),
        in_plane_scale={sample: placement.in_plane_scale for sample, placement in chain.sections.items()},
        reflected=reflected_sections(list(chain.sections.values())),
        largest_gap_mm=_quantile(gaps, 1),
        median_gap_mm=_quantile(gaps, 0.5),
    )
    why = _explanations(chain, reference, points, measured, others or {})
    return dataclasses.replace(measured, problems=problems_of(measured, chain, why), notes=notes_on(measured, chain))


def jacobian_determinant(transform: PointTransform, points_mm: np.ndarray, *, step_mm: float = 0.5) -> np.ndarray:
    """Determinant of the transform's Jacobian at points, (N,), by central differences of half-width `step_mm`.

    NaN where a neighbour has no image.
    """
    columns = []
    for step in step_mm * np.eye(transform.dimension):
        columns.append((transform(points_mm + step) - transform(points_mm - step)) / (2 * step_mm))
    return np.linalg.det(np.stack(columns, axis=-1))


def folded_share(transform: PointTransform, points_mm: np.ndarray, *, step_mm: float = 0.5) -> float:
    """Share of points where the transform turns space inside out.

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
    return float(np.mean(jacobian_determinant(transform, points_mm, step_mm=step_mm) <= 0))


def _direction(
    transform: PointTransform, reference: ReferenceSpace, points: np.ndarray, *, jacobian_at: np.ndarray
) -> DirectionQuality:
    determinants = jacobian_determinant(transform, jacobian_at)
    determinants = determinants[np.isfinite(determinants)]
    mapped = transform(points)
    fit = fit_cortex(reference, mapped) if len(points) else CortexFit(math.nan, math.nan)
    return DirectionQuality(
        jacobian_min=_quantile(determinants, 0),
        jacobian_percentiles={percent: _quantile(determinants, percent / 100) for percent in _PERCENTILES},
        folded_share=_mean(determinants <= 0),
        unmapped_share=_mean(~np.isfinite(mapped).all(axis=1)),
        inside_template_share=_mean(reference.inside_template(mapped)),
        inside_brain_share=_mean(reference.inside_brain(mapped)),
        on_cortex_share=_mean(reference.cortex.locate(mapped).ribbon_distance_mm <= _ON_CORTEX_MM),
        labelled_share=_mean(reference.on_cortex_label(mapped)),
        ribbon_distance_mm=fit.distance_mm,
        misfit=fit.misfit,
    )


def _explanations(
    chain: BrainChain,
    reference: ReferenceSpace,
    points: np.ndarray,
    measured: ChainQuality,
    others: Mapping[str, PointTransform],
) -> Explanations:
    if len(points) == 0:
        return Explanations()
    fit = CortexFit(measured.given.ribbon_distance_mm, measured.given.misfit)
    misfit = explain_misfit(chain.to_reference, reference, points, fit, others)
    rest = measured.round_trip
    if misfit is not None and misfit.corrected is not None:
        # What the corrected transform and the given inverse still disagree about is a mistake of its own.
        rest = round_trip(misfit.corrected, chain.from_reference, points)
    return Explanations(
        misfit=misfit,
        rest=rest,
        round_trip=None if misfit else explain_round_trip(chain.to_reference, chain.from_reference, points, rest),
        mirrored=explain_mirrored(measured.hemispheres),
    )


def _middle(points: np.ndarray) -> np.ndarray | None:
    return np.median(points, axis=0) if len(points) else None


def _quantile(values: np.ndarray, share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else math.nan


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else math.nan
