"""Left and right: whether annotations agree with the places that the chain gives them, or better with the mirror image.

A brain that is mirrored as a whole and registered in that state fits the cortex of the reference about as well as a
correct one: no matrix and no surface gives it away. Areas do, because left and right are not alike: at the mirrored
places the atlas has other areas than were annotated.
"""

import math
from dataclasses import dataclass

import numpy as np

from cytonet_pipeline.registration.quality.candidates import LikelyMistake, mirror
from cytonet_pipeline.registration.reference.space import ReferenceSpace
from cytonet_pipeline.registration.transforms.point_transform import PointTransform

# Measured on three brains: 0.86 to 0.89 of the annotated points agree with the atlas, 0.41 to 0.60 mirrored.
_CLEARLY_BETTER = 0.1
_LEAST_POINTS = 100
_LEAST_AREAS = 3


@dataclass(frozen=True, eq=False)
class AnnotatedPoints:
    """Points of the brain with the areas annotated there.

    Attributes
    ----------
    points_mm : (N, 3) array
        Brain mm.
    areas : (N,) int array
        Index in `desc-areas_dseg.tsv`, not 0.
    hemispheres : (N,) array of str
        'L' or 'R' where the annotation's table has a column `hemisphere`, '' where it has none.
    """

    points_mm: np.ndarray
    areas: np.ndarray
    hemispheres: np.ndarray

    @classmethod
    def none(cls) -> "AnnotatedPoints":
        """Return the empty set, for a brain without annotations."""
        return cls(np.empty((0, 3)), np.empty(0, dtype=np.int32), np.empty(0, dtype="<U1"))


@dataclass(frozen=True)
class HemisphereFit:
    """Agreement of annotations with the atlas; NaN where there is nothing to compare.

    Attributes
    ----------
    annotated_points, areas : int
        Number of points, and of the areas that they are from.
    area_agreement, mirrored_area_agreement : float
        Share of annotated points at which the atlas has the same area: as placed, and with the brain mirrored, before
        or after the transform, whichever agrees better.
    hemisphere_agreement : float
        Share of points with an annotated hemisphere at which the reference has the same.
    atlas_surface_agreement : float
        Share of cortex points with an atlas label whose hemisphere is that of the nearer pial surface.
    """

    annotated_points: int
    areas: int
    area_agreement: float
    mirrored_area_agreement: float
    hemisphere_agreement: float
    atlas_surface_agreement: float

    @property
    def mirrored(self) -> bool:
        """Whether left and right are exchanged, as far as annotations can tell."""
        if self.annotated_points < _LEAST_POINTS:
            return False
        areas_agree_better = self.mirrored_area_agreement - self.area_agreement > _CLEARLY_BETTER
        return self.hemisphere_agreement < 0.5 or (self.areas >= _LEAST_AREAS and areas_agree_better)


def fit_hemispheres(
    to_reference: PointTransform, reference: ReferenceSpace, mapped_mm: np.ndarray, annotated: AnnotatedPoints
) -> HemisphereFit:
    """Compare the annotations with the atlas, and the atlas with the surfaces.

    Parameters
    ----------
    mapped_mm : (N, 3) array
        Points of the brain's cortex in the reference.
    """
    places_mm = to_reference(annotated.points_mm)
    middle_x_mm = _middle_x_mm(annotated.points_mm)
    images = (mirror()(places_mm), to_reference(mirror(middle_x_mm)(annotated.points_mm)))
    known = annotated.hemispheres != ""
    labelled = mapped_mm[reference.atlas_at(mapped_mm) > 0]
    surface = np.where(reference.locate(labelled).is_left, "L", "R")
    return HemisphereFit(
        annotated_points=len(annotated.areas),
        areas=len(np.unique(annotated.areas)),
        area_agreement=_share(reference.area_at(places_mm) == annotated.areas),
        mirrored_area_agreement=max(_share(reference.area_at(image) == annotated.areas) for image in images),
        hemisphere_agreement=_share(reference.hemisphere_at(places_mm[known]) == annotated.hemispheres[known]),
        atlas_surface_agreement=_share(reference.hemisphere_at(labelled) == surface),
    )


def diagnose_mirroring(fit: HemisphereFit) -> LikelyMistake | None:
    """Return the mistake if left and right are probably exchanged; None if nothing suggests it."""
    if not fit.mirrored:
        return None
    if fit.hemisphere_agreement < 0.5:
        figures = f"only {fit.hemisphere_agreement:.0%} of the annotated points lie in their hemisphere"
    else:
        figures = (
            f"{fit.area_agreement:.0%} of {fit.annotated_points} annotated points agree with the atlas as placed, "
            f"{fit.mirrored_area_agreement:.0%} mirrored"
        )
    return LikelyMistake(
        f"the brain is probably mirrored, left and right exchanged: {figures}",
        "exchange left and right in the table of matrices (row m0. with the other sign), and register the brain again",
    )


def _middle_x_mm(points_mm: np.ndarray) -> float:
    return float(np.quantile(points_mm[:, 0], [0.01, 0.99]).mean()) if len(points_mm) else 0.0


def _share(agrees: np.ndarray) -> float:
    return float(np.mean(agrees)) if len(agrees) else math.nan
