"""Measuring how far to trust a brain's chain: folding, round trip, fit to the reference's cortex, series of sections.

The numbers are measured here; `diagnosis` draws the conclusions and `reporting` the pictures. A chain that fails is
reported; nothing here raises for bad data.

Caveat: the thresholds of this package (misfit, round trip, share of mirrored areas) were set on the data sets that the
tests use as well: three brains with the anatomy of Colin-27 and one pair of ANTs files. For other brains they are a
starting point; docs/transforms.md has the figures behind each.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from cytonet_pipeline.dataset.series import reflected
from cytonet_pipeline.registration.chain.brain_chain import BrainChain
from cytonet_pipeline.registration.quality.chain_quality import ChainQuality, DirectionQuality
from cytonet_pipeline.registration.quality.cortex_fit import CortexFit, diagnose_misfit, fit_cortex, thin_out
from cytonet_pipeline.registration.quality.diagnosis import Diagnosis, notes_on, problems_of
from cytonet_pipeline.registration.quality.hemispheres import (
    AnnotatedPoints,
    diagnose_mirroring,
    fit_hemispheres,
)
from cytonet_pipeline.registration.quality.round_trip import diagnose_round_trip, measure_round_trip
from cytonet_pipeline.registration.reference.space import ReferenceSpace
from cytonet_pipeline.registration.transforms.jacobian import jacobian_determinant
from cytonet_pipeline.registration.transforms.point_transform import PointTransform

# The cortex of the atlas ends within a voxel or two of that of a mask: a label this near still counts as a hit.
_ON_CORTEX_MM = 2.0
_PERCENTILES = (1, 5, 50, 95, 99)


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
        any chain. Empty: the direction cannot be checked, which is noted.
    annotated : AnnotatedPoints, optional
        What was annotated where: reveals a brain that is mirrored as a whole.
    others : mapping, optional
        Transforms to the reference of other brains, by name: a chain that belongs to one of them can then be named.
    """
    points = thin_out(np.asarray(cortex_points_mm, dtype=np.float64).reshape(-1, 3))
    mapped = chain.brain_to_reference(points)
    gaps = np.diff(np.sort(list(chain.positions_mm(_middle(points)).values())))
    measured = ChainQuality(
        brain=chain.brain,
        points=len(points),
        given=_direction(chain.to_reference, reference, points, jacobian_at=points),
        opposite=_direction(chain.from_reference, reference, points, jacobian_at=mapped),
        round_trip=measure_round_trip(chain.to_reference, chain.from_reference, points),
        hemispheres=fit_hemispheres(chain.to_reference, reference, mapped, annotated or AnnotatedPoints.none()),
        in_plane_scale={sample: placement.in_plane_scale for sample, placement in chain.sections.items()},
        reflected=tuple(reflected({sample: placement.matrix for sample, placement in chain.sections.items()})),
        largest_gap_mm=_quantile(gaps, 1),
        median_gap_mm=_quantile(gaps, 0.5),
    )
    diagnosis = _diagnose(chain, reference, points, measured, others or {})
    problems = problems_of(measured, chain, diagnosis)
    return dataclasses.replace(measured, problems=problems, notes=notes_on(measured, chain))


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


def _diagnose(
    chain: BrainChain,
    reference: ReferenceSpace,
    points: np.ndarray,
    measured: ChainQuality,
    others: Mapping[str, PointTransform],
) -> Diagnosis:
    if len(points) == 0:
        return Diagnosis()
    fit = CortexFit(measured.given.ribbon_distance_mm, measured.given.misfit)
    misfit = diagnose_misfit(chain.to_reference, reference, points, fit, others)
    remaining = measured.round_trip
    if misfit is not None and misfit.corrected is not None:
        # Where the corrected transform and the given inverse still disagree, that is a mistake of its own.
        remaining = measure_round_trip(misfit.corrected, chain.from_reference, points)
    return Diagnosis(
        misfit=misfit,
        remaining=remaining,
        round_trip=None if misfit else diagnose_round_trip(chain.to_reference, chain.from_reference, points, remaining),
        mirrored=diagnose_mirroring(measured.hemispheres),
    )


def _middle(points: np.ndarray) -> np.ndarray | None:
    return np.median(points, axis=0) if len(points) else None


def _quantile(values: np.ndarray, share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else math.nan


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else math.nan
