"""How far to trust a brain's chain: folding, round trip, fit to the reference's cortex, and the series of sections.

Numbers and a verdict; pictures are `reporting`'s. A chain that fails is reported, nothing here raises for bad data.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cytonet_pipeline.registration.chain import BrainChain
from cytonet_pipeline.registration.direction import MISFIT_LIMIT, CortexFit, explain_misfit, fit_cortex, thinned
from cytonet_pipeline.registration.placement import reflected_sections
from cytonet_pipeline.registration.reference import ReferenceSpace
from cytonet_pipeline.registration.transforms import PointTransform

# The cortex of the atlas ends within a voxel or two of that of a mask: so near a label still counts as hit.
_ON_CORTEX_MM = 2.0
_MOST_FOLDED = 0.01
_ROUND_TRIP_MM = 0.5
_SCALE_TOLERANCE = 0.05


@dataclass(frozen=True)
class ChainQuality:
    """Quality of a chain in numbers, and what follows from them.

    Attributes
    ----------
    points : int
        Points of the brain's cortex on which it was measured.
    jacobian_min, jacobian_p01 : float
        Least and first percentile of the Jacobian determinant of brain → reference.
    folded_share : float
        Share of points where it is not positive.
    inside_brain_share, on_cortex_share : float
        Share of points that fall into the brain mask, and within 2 mm of the cortical ribbon.
    labelled_share : float
        Share of points that fall onto any label of the atlas.
    ribbon_distance_mm, misfit : float
        See `direction.CortexFit`.
    round_trip_mm_p95 : float
        95th percentile of the distance between a point and the same point there and back.
    lost_share : float
        Share of points that do not come back because the inverse does not converge there.
    in_plane_scale : dict
        Brain mm a scan mm, by sample.
    reflected : tuple of str
        Samples seen from the other side than most.
    largest_gap_mm, median_gap_mm : float
        Distances of neighbouring sections along the series.
    problems, notes : tuple of str
        What makes the chain unfit for use, and what to look at.
    """

    brain: str
    points: int
    jacobian_min: float
    jacobian_p01: float
    folded_share: float
    inside_brain_share: float
    on_cortex_share: float
    labelled_share: float
    ribbon_distance_mm: float
    misfit: float
    round_trip_mm_p95: float
    lost_share: float
    in_plane_scale: dict[str, float]
    reflected: tuple[str, ...]
    largest_gap_mm: float
    median_gap_mm: float
    problems: tuple[str, ...]
    notes: tuple[str, ...]

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
        plain = {key: _plain(value) for key, value in dataclasses.asdict(self).items()}
        return {**plain, "passed": self.passed}


def measure_chain(
    chain: BrainChain,
    reference: ReferenceSpace,
    cortex_points_mm: np.ndarray,
    *,
    others: Mapping[str, PointTransform] | None = None,
) -> ChainQuality:
    """Measure a chain on points of the brain's own cortex.

    Parameters
    ----------
    cortex_points_mm : (N, 3) array
        Brain mm, drawn from masks that were *not* derived from the reference through this very chain: those would fit
        whatever the chain. Empty: the direction cannot be checked, which is noted.
    others : mapping, optional
        Transforms to the reference of other brains, by name: with them a chain that belongs to one of them is named.
    """
    points = thinned(np.asarray(cortex_points_mm, dtype=np.float64).reshape(-1, 3))
    determinants = jacobian_determinant(chain.to_reference, points)
    mapped = chain.brain_to_reference(points)
    back_mm = np.linalg.norm(chain.reference_to_brain(mapped) - points, axis=1)
    fit = fit_cortex(reference, mapped) if len(points) else CortexFit(math.nan, math.nan)
    gaps = np.diff(np.sort(list(chain.positions_mm.values())))
    measured = ChainQuality(
        brain=chain.brain,
        points=len(points),
        jacobian_min=_quantile(determinants, 0),
        jacobian_p01=_quantile(determinants, 0.01),
        folded_share=folded_share(chain.to_reference, points),
        inside_brain_share=_mean(reference.inside_brain(mapped)),
        on_cortex_share=_mean(reference.cortex.locate(mapped).ribbon_distance_mm <= _ON_CORTEX_MM),
        labelled_share=_mean(reference.atlas_at(mapped) > 0),
        ribbon_distance_mm=fit.distance_mm,
        misfit=fit.misfit,
        round_trip_mm_p95=_quantile(back_mm[np.isfinite(back_mm)], 0.95),
        lost_share=_mean(~np.isfinite(back_mm)),
        in_plane_scale={sample: placement.in_plane_scale for sample, placement in chain.sections.items()},
        reflected=reflected_sections(list(chain.sections.values())),
        largest_gap_mm=_quantile(gaps, 1),
        median_gap_mm=_quantile(gaps, 0.5),
        problems=(),
        notes=(),
    )
    explanation = explain_misfit(chain.to_reference, reference, points, fit, others or {}) if len(points) else None
    return dataclasses.replace(measured, problems=_problems(measured, explanation), notes=_notes(measured, chain))


def jacobian_determinant(transform: PointTransform, points_mm: np.ndarray, *, step_mm: float = 0.5) -> np.ndarray:
    """Determinant of the transform's Jacobian at points, (N,), by central differences of half-width `step_mm`."""
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


def _problems(quality: ChainQuality, explanation: str | None) -> tuple[str, ...]:
    name = f"sub-{quality.brain}"
    problems = []
    if explanation is not None:
        problems.append(f"{name}: {explanation}.")
    elif quality.misfit >= MISFIT_LIMIT:
        problems.append(
            f"{name}: the transform does not put the brain's cortex onto that of MNIColin27 (on average "
            f"{quality.ribbon_distance_mm:.2f} mm off, hardly better than after a shift of 2 mm); it may belong to "
            "another brain or another reference."
        )
    if quality.folded_share > 0.5:
        problems.append(f"{name}: the transform mirrors the brain, its determinant is negative.")
    elif quality.folded_share > _MOST_FOLDED:
        problems.append(f"{name}: the transform folds space at {quality.folded_share:.1%} of the cortex.")
    if quality.round_trip_mm_p95 > _ROUND_TRIP_MM:
        problems.append(
            f"{name}: the given inverse does not belong to the transform, there and back is "
            f"{quality.round_trip_mm_p95:.2f} mm off."
        )
    return tuple(problems)


def _notes(quality: ChainQuality, chain: BrainChain) -> tuple[str, ...]:
    notes = [f"sub-{chain.brain}: {note}" for note in chain.notes]
    notes += [f"sub-{chain.brain} sample-{sample} left out: {reason}" for sample, reason in chain.left_out.items()]
    if quality.points == 0:
        notes.append(f"sub-{chain.brain}: no cortex mask of its own, the direction of the chain was not checked.")
    if quality.reflected:
        notes.append(f"sub-{chain.brain}: seen from the other side than most: sample-{', '.join(quality.reflected)}.")
    scales = np.array(list(quality.in_plane_scale.values()))
    if len(scales):
        odd = np.abs(scales / np.median(scales) - 1) > _SCALE_TOLERANCE
        names = [sample for sample, is_odd in zip(quality.in_plane_scale, odd, strict=True) if is_odd]
        if names:
            notes.append(f"sub-{chain.brain}: in-plane scale differs by more than 5 %: sample-{', '.join(names)}.")
    if quality.lost_share > 0:
        notes.append(f"sub-{chain.brain}: the inverse does not converge at {quality.lost_share:.2%} of the cortex.")
    return tuple(notes)


def _quantile(values: np.ndarray, share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else math.nan


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, tuple):
        return list(value)
    return value
