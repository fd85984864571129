"""What follows from the figures of a chain: problems that forbid its use, and notes, with file and remedy."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cytonet_pipeline.errors import TransformError
from cytonet_pipeline.registration.chain.brain_chain import BrainChain
from cytonet_pipeline.registration.quality.cortex_fit import MISFIT_LIMIT, Explanation
from cytonet_pipeline.registration.quality.round_trip import DOUBTFUL_MM, RoundTrip

if TYPE_CHECKING:
    from cytonet_pipeline.registration.quality.measure import ChainQuality

_MOST_FOLDED = 0.01
_MOST_OUTSIDE = 0.05
_ROUND_TRIP_MM = 0.5
_MOST_LOST = 0.05
_SCALE_TOLERANCE = 0.05
_PAGE = "docs/transforms.md"


@dataclass(frozen=True)
class Explanations:
    """Mistakes that would explain the figures; None where none does.

    `rest` is there and back once the mistake behind a misfit is corrected.
    """

    misfit: Explanation | None = None
    rest: RoundTrip | None = None
    round_trip: Explanation | None = None
    mirrored: Explanation | None = None


def problems_of(quality: "ChainQuality", chain: BrainChain, why: Explanations) -> tuple[str, ...]:
    """What makes a chain unfit for use."""
    found = [_misfit(quality, chain, why), _folds(quality, chain, why), _round_trip(quality, chain, why)]
    if why.mirrored is not None and why.misfit is None:
        found.append(_said(chain, why.mirrored.mistake, why.mirrored.to_fix, "matrices"))
    return tuple(text for text in found if text)


def notes_on(quality: "ChainQuality", chain: BrainChain) -> tuple[str, ...]:
    """What to look at in a chain; it may be used all the same."""
    notes = [f"sub-{chain.brain}: {note}" for note in chain.notes]
    notes += [f"sub-{chain.brain} sample-{sample} left out: {reason}" for sample, reason in chain.left_out.items()]
    if quality.points == 0:
        notes.append(f"sub-{chain.brain}: no cortex mask of its own, the direction of the chain was not checked.")
    if quality.reflected:
        names = ", ".join(quality.reflected)
        notes.append(
            _said(
                chain,
                f"reflected, seen from the other side than the brain's other sections: sample-{names}",
                "if these scans are not turned over, change the sign of columns m.0 in their rows",
                "matrices",
            )
        )
    return (*notes, *_scale(quality, chain), *_small_losses(quality, chain))


def _misfit(quality: "ChainQuality", chain: BrainChain, why: Explanations) -> str:
    given = quality.given
    if why.misfit is not None:
        return _said(chain, why.misfit.mistake, why.misfit.to_fix)
    if 1 - given.inside_template_share > _MOST_OUTSIDE:
        return _said(
            chain,
            f"the brain lies outside the template: {1 - given.inside_template_share:.0%} of its cortex is put beyond "
            "the volume of MNIColin27",
            "check that the matrices and the transform are in mm and meant for this brain and for MNIColin27",
        )
    if given.misfit >= MISFIT_LIMIT:
        return _said(
            chain,
            f"the transform does not put the brain's cortex onto that of MNIColin27 (on average "
            f"{given.ribbon_distance_mm:.2f} mm off, hardly better than after a shift of 2 mm); it may belong to "
            "another brain or another reference",
            f"look at the picture of the transform, compare with {_PAGE}, and register again if no file was exchanged",
        )
    return ""


def _folds(quality: "ChainQuality", chain: BrainChain, why: Explanations) -> str:
    share = quality.given.folded_share
    if share > 0.5 and why.misfit is None:
        what = "the transform mirrors the brain, its determinant is negative"
        return _said(chain, what, "write the transform without the reflection, or mirror the matrices instead")
    if _MOST_FOLDED < share <= 0.5:
        what = f"the transform folds space at {share:.1%} of the cortex"
        return _said(chain, what, "register again with more regularisation")
    return ""


def _round_trip(quality: "ChainQuality", chain: BrainChain, why: Explanations) -> str:
    if why.round_trip is not None:
        what = f"the two directions do not belong together: {why.round_trip.mistake}"
        return _said(chain, what, why.round_trip.to_fix, "inverse")
    if quality.points and quality.round_trip.lost > _MOST_LOST * quality.points:
        what = f"{quality.round_trip.lost} of {quality.points} cortex points do not come back from MNIColin27"
        return _said(chain, what, "give the inverse of this transform, or none: it is then computed", "inverse")
    given_mm, rest_mm = quality.round_trip.p95_mm, why.rest.p95_mm if why.rest else 0.0
    if not min(given_mm, rest_mm) > _ROUND_TRIP_MM:
        return ""
    what = f"the given inverse does not belong to the transform, there and back is {given_mm:.2f} mm off"
    return _said(chain, what, "give the inverse of this transform, or none: it is then computed", "inverse")


def _scale(quality: "ChainQuality", chain: BrainChain) -> list[str]:
    scales = np.array(list(quality.in_plane_scale.values()))
    if len(scales) == 0:
        return []
    odd = np.abs(scales / np.median(scales) - 1) > _SCALE_TOLERANCE
    names = [sample for sample, is_odd in zip(quality.in_plane_scale, odd, strict=True) if is_odd]
    if not names:
        return []
    what = f"in-plane scale differs by more than 5 % from the brain's other sections: sample-{', '.join(names)}"
    return [_said(chain, what, "check their pixel size and their rows in the table of matrices", "matrices")]


def _small_losses(quality: "ChainQuality", chain: BrainChain) -> list[str]:
    notes = []
    if 0 < quality.round_trip.lost <= _MOST_LOST * quality.points:
        what = f"{quality.round_trip.lost} of {quality.points} cortex points have no way back: the inverse is undefined"
        notes.append(_said(chain, what, "nothing, if they are few; else register again with more regularisation"))
    if DOUBTFUL_MM < quality.round_trip.p95_mm <= _ROUND_TRIP_MM:
        what = f"the given inverse is {quality.round_trip.p95_mm:.2f} mm off"
        notes.append(_said(chain, what, "give none, and it is computed to 0.01 mm", "inverse"))
    return notes


def _said(chain: BrainChain, what: str, to_fix: str, about: str = "transform") -> str:
    files = _files(chain, about)
    return str(TransformError(f"sub-{chain.brain}{f' ({files})' if files else ''}: {what}.", to_fix=to_fix))


def _files(chain: BrainChain, about: str) -> str:
    """The files that a sentence is about; none for a chain that was not made from files."""
    if chain.sources is None:
        return ""
    sources = chain.sources
    named: dict[str, list[Path | None]] = {
        "transform": [sources.to_reference],
        "inverse": [sources.to_reference, sources.from_reference],
        "matrices": [sources.matrices],
    }
    return ", ".join(path.name for path in named[about] if path is not None)
