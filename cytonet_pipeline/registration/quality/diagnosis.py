"""Conclusions from the figures of a chain: problems that forbid its use, and notes, with file and remedy."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cytonet_pipeline.errors import TransformError
from cytonet_pipeline.registration.chain.brain_chain import BrainChain
from cytonet_pipeline.registration.quality.candidates import LikelyMistake
from cytonet_pipeline.registration.quality.chain_quality import ChainQuality
from cytonet_pipeline.registration.quality.cortex_fit import MISFIT_LIMIT
from cytonet_pipeline.registration.quality.round_trip import DOUBTFUL_MM, RoundTrip

_MOST_FOLDED = 0.01
_MOST_OUTSIDE = 0.05
_ROUND_TRIP_MM = 0.5
_MOST_LOST = 0.05
_SCALE_TOLERANCE = 0.05
_PAGE = "docs/transforms.md"


@dataclass(frozen=True)
class Diagnosis:
    """Mistakes that would explain the figures; None where none does.

    Attributes
    ----------
    misfit, round_trip, mirrored : LikelyMistake, optional
        What would explain a bad fit to the cortex, a bad round trip, and exchanged left and right.
    remaining : RoundTrip, optional
        The round trip once the mistake behind a misfit is corrected.
    """

    misfit: LikelyMistake | None = None
    remaining: RoundTrip | None = None
    round_trip: LikelyMistake | None = None
    mirrored: LikelyMistake | None = None


def problems_of(quality: ChainQuality, chain: BrainChain, diagnosis: Diagnosis) -> tuple[str, ...]:
    """List what makes a chain unfit for use."""
    problems = [check(quality, chain, diagnosis) for check in (_misfit, _folds, _round_trip)]
    if diagnosis.mirrored is not None and diagnosis.misfit is None:
        problems.append(_message(chain, diagnosis.mirrored.mistake, diagnosis.mirrored.to_fix, "matrices"))
    return tuple(text for text in problems if text)


def notes_on(quality: ChainQuality, chain: BrainChain) -> tuple[str, ...]:
    """List what to check in a chain that may be used all the same."""
    notes = [f"sub-{chain.brain}: {note}" for note in chain.notes]
    notes += [f"sub-{chain.brain} sample-{sample} left out: {reason}" for sample, reason in chain.left_out.items()]
    if quality.points == 0:
        notes.append(f"sub-{chain.brain}: no cortex mask of its own, the direction of the chain was not checked.")
    if quality.reflected:
        names = ", ".join(quality.reflected)
        notes.append(
            _message(
                chain,
                f"reflected, seen from the other side than the brain's other sections: sample-{names}",
                "if these scans are not turned over, change the sign of columns m.0 in their rows",
                "matrices",
            )
        )
    return (*notes, *_scale(quality, chain), *_small_losses(quality, chain))


def _misfit(quality: ChainQuality, chain: BrainChain, diagnosis: Diagnosis) -> str:
    given = quality.given
    if diagnosis.misfit is not None:
        return _message(chain, diagnosis.misfit.mistake, diagnosis.misfit.to_fix)
    if 1 - given.inside_template_share > _MOST_OUTSIDE:
        return _message(
            chain,
            f"the brain lies outside the template: {1 - given.inside_template_share:.0%} of its cortex is put beyond "
            "the volume of MNIColin27",
            "check that the matrices and the transform are in mm and meant for this brain and for MNIColin27",
        )
    if given.misfit >= MISFIT_LIMIT:
        return _message(
            chain,
            f"the transform does not put the brain's cortex onto that of MNIColin27 (on average "
            f"{given.ribbon_distance_mm:.2f} mm off, hardly better than after a shift of 2 mm); it may belong to "
            "another brain or another reference",
            f"look at the picture of the transform, compare with {_PAGE}, and register again if no file was exchanged",
        )
    return ""


def _folds(quality: ChainQuality, chain: BrainChain, diagnosis: Diagnosis) -> str:
    share = quality.given.folded_share
    if share > 0.5 and diagnosis.misfit is None:
        what = "the transform mirrors the brain, its determinant is negative"
        return _message(chain, what, "write the transform without the reflection, or mirror the matrices instead")
    if _MOST_FOLDED < share <= 0.5:
        what = f"the transform folds space at {share:.1%} of the cortex"
        return _message(chain, what, "register again with more regularisation")
    return ""


def _round_trip(quality: ChainQuality, chain: BrainChain, diagnosis: Diagnosis) -> str:
    if diagnosis.round_trip is not None:
        what = f"the two directions do not belong together: {diagnosis.round_trip.mistake}"
        return _message(chain, what, diagnosis.round_trip.to_fix, "inverse")
    if quality.points and quality.round_trip.lost > _MOST_LOST * quality.points:
        what = f"{quality.round_trip.lost} of {quality.points} cortex points do not come back from MNIColin27"
        if chain.from_reference.undefined:
            what = f"{what}: {chain.from_reference.undefined}, and no inverse is computed"
            to_fix = f"check that it holds displacements in mm (docs/programs); {_PAGE} says what is read"
            return _message(chain, what, to_fix)
        return _message(chain, what, "give the inverse of this transform, or none: it is then computed", "inverse")
    given_mm, remaining_mm = quality.round_trip.p95_mm, diagnosis.remaining.p95_mm if diagnosis.remaining else 0.0
    if not min(given_mm, remaining_mm) > _ROUND_TRIP_MM:
        return ""
    what = f"the given inverse does not belong to the transform, a round trip is {given_mm:.2f} mm off"
    return _message(chain, what, "give the inverse of this transform, or none: it is then computed", "inverse")


def _scale(quality: ChainQuality, chain: BrainChain) -> list[str]:
    scales = np.array(list(quality.in_plane_scale.values()))
    if len(scales) == 0:
        return []
    odd = np.abs(scales / np.median(scales) - 1) > _SCALE_TOLERANCE
    names = [sample for sample, is_odd in zip(quality.in_plane_scale, odd, strict=True) if is_odd]
    if not names:
        return []
    what = f"in-plane scale differs by more than 5 % from the brain's other sections: sample-{', '.join(names)}"
    return [_message(chain, what, "check their pixel size and their rows in the table of matrices", "matrices")]


def _small_losses(quality: ChainQuality, chain: BrainChain) -> list[str]:
    notes = []
    if 0 < quality.round_trip.lost <= _MOST_LOST * quality.points:
        what = f"{quality.round_trip.lost} of {quality.points} cortex points have no way back: the inverse is undefined"
        notes.append(_message(chain, what, "nothing if they are few, else register again with more regularisation"))
    if DOUBTFUL_MM < quality.round_trip.p95_mm <= _ROUND_TRIP_MM:
        what = f"the given inverse is {quality.round_trip.p95_mm:.2f} mm off"
        notes.append(_message(chain, what, "give none, and it is computed to 0.01 mm", "inverse"))
    return notes


def _message(chain: BrainChain, what: str, to_fix: str, about: str = "transform") -> str:
    files = _files(chain, about)
    return str(TransformError(f"sub-{chain.brain}{f' ({files})' if files else ''}: {what}.", to_fix=to_fix))


def _files(chain: BrainChain, about: str) -> str:
    """Name the files that a message is about; none for a chain that was not made from files."""
    if chain.sources is None:
        return ""
    sources = chain.sources
    named: dict[str, list[Path | None]] = {
        "transform": [sources.to_reference],
        "inverse": [sources.to_reference, sources.from_reference],
        "matrices": [sources.matrices],
    }
    return ", ".join(path.name for path in named[about] if path is not None)
