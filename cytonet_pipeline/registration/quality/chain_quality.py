"""The quality of a chain in numbers, and the problems and notes that follow from them."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from cytonet_pipeline.registration.quality.hemispheres import HemisphereFit
from cytonet_pipeline.registration.quality.round_trip import RoundTrip


@dataclass(frozen=True)
class DirectionQuality:
    """Quality of one direction of a chain.

    Attributes
    ----------
    jacobian_min : float
        Smallest Jacobian determinant over the cortex.
    jacobian_percentiles : dict of float
        By percentile: 1, 5, 50, 95, 99.
    folded_share : float
        Share of points where the determinant is not positive.
    unmapped_share : float
        Share of points that have no image.
    inside_template_share, inside_brain_share, on_cortex_share, labelled_share : float
        Shares of the brain's cortex points that fall into the template's volume, into its brain mask, within 2 mm of
        the cortical ribbon, and onto a cortical label of the atlas.
    ribbon_distance_mm, misfit : float
        See `cortex_fit.CortexFit`.
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
        """Return a flat dictionary, one number per entry."""
        flat = {name: value for name, value in dataclasses.asdict(self).items() if name != "jacobian_percentiles"}
        flat |= {f"jacobian_p{percent:02d}": value for percent, value in self.jacobian_percentiles.items()}
        return {f"{prefix}{name}": value for name, value in flat.items()}


@dataclass(frozen=True)
class ChainQuality:
    """Quality of a chain, and the problems and notes that follow from it.

    Attributes
    ----------
    points : int
        Number of points of the brain's cortex on which it was measured.
    given : DirectionQuality
        Of brain → reference.
    opposite : DirectionQuality
        Of reference → brain: the Jacobian where the cortex lies in the reference, the shares as if it were the
        transform to the reference. A chain given backwards has the better figures here.
    round_trip : RoundTrip
        From the brain to the reference and back.
    hemispheres : HemisphereFit
        Agreement of left and right with annotations and surfaces.
    in_plane_scale : dict
        Brain mm per scan mm, by sample.
    reflected : tuple of str
        Samples seen from the opposite side of most others.
    largest_gap_mm, median_gap_mm : float
        Distances between neighbouring sections along the series, in the middle of the cortex.
    problems, notes : tuple of str
        What makes the chain unfit for use, and what to check; each with the file and the remedy.
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
        """Whether the chain may be used."""
        return not self.problems

    @property
    def description(self) -> str:
        """The problems in words, or that there are none."""
        return "\n".join(self.problems) or f"sub-{self.brain}: the chain to MNIColin27 fits."

    def as_dict(self) -> dict[str, Any]:
        """Return everything in types that JSON can hold; numbers that were not measured are None."""
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
