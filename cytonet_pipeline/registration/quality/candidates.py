"""Candidate corrections of a transform: one for each mistake that people commonly make.

The opposite direction, Warp for InverseWarp, a member that should have been inverted, LPS for RAS, left for right,
another brain's file. Which of them explains a misfit is decided in `cortex_fit` and `round_trip`.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cytonet_pipeline.registration.transforms.fields import Field, FieldInverse
from cytonet_pipeline.registration.transforms.point_transform import Affine, Chain, PointTransform

LPS_TO_RAS = Affine(np.diag([-1.0, -1.0, 1.0, 1.0]))
_RECIPES = "docs/transforms.md#ants has the recipes"
# Longer chains are searched for one mistake at a time: their combinations are too many.
_LONGEST_COMBINED = 2


@dataclass(frozen=True)
class CandidateCorrection:
    """A transform as it would be without a certain mistake.

    Attributes
    ----------
    mistake : str
        The mistake, as a clause.
    to_fix : str
        The remedy.
    transform : PointTransform
        The corrected transform.
    changes : int
        Number of things that would have gone wrong at once: of two candidates that fit alike the simpler one counts.
    """

    mistake: str
    to_fix: str
    transform: PointTransform
    changes: int = 1


@dataclass(frozen=True, eq=False)
class LikelyMistake:
    """The mistake that would explain a chain's figures.

    Attributes
    ----------
    mistake : str
        The mistake, as a clause.
    to_fix : str
        The remedy.
    corrected : PointTransform, optional
        The transform to the reference without the mistake.
    """

    mistake: str
    to_fix: str
    corrected: PointTransform | None = None


def candidate_corrections(
    transform: PointTransform, others: Mapping[str, PointTransform], middle_x_mm: float
) -> list[CandidateCorrection]:
    """List every candidate for a transform from brain to reference.

    Parameters
    ----------
    others : mapping
        Other brains' transforms to the reference, by name.
    middle_x_mm : float
        Position of the brain's own mid-sagittal plane: a scan that was turned over is mirrored there, not at x = 0.
    """
    return [
        _backwards(transform),
        *rearrangements(transform),
        *_conventions(transform),
        *_mirrored(transform, middle_x_mm),
        CandidateCorrection(
            "the transform makes it worse: no transform at all fits better",
            "check that the file belongs to this brain and leads to MNIColin27",
            Affine(np.eye(4)),
        ),
        *_of_others(others),
    ]


def rearrangements(transform: PointTransform) -> list[CandidateCorrection]:
    """List the candidates with the same members inverted, in another order, or in another convention."""
    members, names = _flatten(transform)
    if len(members) < 2:
        return []
    candidates = []
    for order, flips in _arrangements(members):
        clauses = [f"{names[i]} is taken the wrong way round, {_clause_of(members[i])}" for i in flips]
        if order != tuple(range(len(members))):
            clauses.append(f"{', '.join(names)} are applied in the wrong order")
        fixed = [members[i].inverse() if i in flips else members[i] for i in order]
        fix = f"exchange the file, its `invert`, or the order in the chain; {_RECIPES}"
        candidates.append(CandidateCorrection(" and ".join(clauses), fix, Chain(fixed), len(clauses)))
    for i, name in enumerate(names):
        flipped = Chain([LPS_TO_RAS, members[i], LPS_TO_RAS])
        clause = f"{name} was written for RAS but stands in an ITK file, which is LPS"
        fix = "write its numbers in LPS: x and y with the other sign"
        candidates.append(CandidateCorrection(clause, fix, Chain([*members[:i], flipped, *members[i + 1 :]])))
    return candidates


def _arrangements(members: Sequence[PointTransform]) -> Iterable[tuple[tuple[int, ...], tuple[int, ...]]]:
    """List orders and the members to invert, except for the chain as given and its whole inverse."""
    n = len(members)
    as_given, everything = tuple(range(n)), tuple(range(n))
    if n <= _LONGEST_COMBINED:
        flips: list[tuple[int, ...]] = [c for k in range(n + 1) for c in itertools.combinations(range(n), k)]
        arrangements = list(itertools.product(itertools.permutations(range(n)), flips))
    else:
        affine = tuple(i for i in range(n) if isinstance(members[i], Affine))
        warps = tuple(i for i in range(n) if i not in affine)
        some = [*((i,) for i in range(n)), affine, warps, everything]
        arrangements = [(as_given, flip) for flip in dict.fromkeys(some) if flip] + [(as_given[::-1], ())]
    return [entry for entry in arrangements if entry not in ((as_given, ()), (as_given[::-1], everything))]


def _clause_of(member: PointTransform) -> str:
    if isinstance(member, Affine):
        return "inverted where it should not be, or not where it should"
    return "as when Warp and InverseWarp are exchanged"


def _backwards(transform: PointTransform) -> CandidateCorrection:
    return CandidateCorrection(
        "the transform is given backwards: the file holds from-MNIColin27_to-brain, its inverse fits",
        "exchange it with the file of the other direction, or name it in a .json chain with invert: true",
        transform.inverse(),
    )


def _conventions(transform: PointTransform) -> list[CandidateCorrection]:
    return [
        CandidateCorrection(
            "the transform was written for RAS but stands in an ITK file, which is LPS: exchanging them fits",
            "write its numbers in LPS: x and y with the other sign",
            Chain([LPS_TO_RAS, transform, LPS_TO_RAS]),
        ),
        CandidateCorrection(
            "the matrices of the sections lead to LPS instead of RAS: flipping x and y of the brain fits",
            "multiply rows m0. and m1. of the table of matrices with -1",
            Chain([LPS_TO_RAS, transform]),
        ),
        CandidateCorrection(
            "the transform leads to LPS instead of RAS: flipping x and y of its result fits",
            "write the transform so that it leads to RAS before it is put into an ITK file",
            Chain([transform, LPS_TO_RAS]),
        ),
    ]


def _mirrored(transform: PointTransform, middle_x_mm: float) -> list[CandidateCorrection]:
    clause = "left and right of the brain are exchanged: mirroring it fits"
    fix = "exchange left and right in the table of matrices: row m0. with the other sign"
    middles = [0.0] if abs(middle_x_mm) < 0.5 else [0.0, middle_x_mm]
    return [CandidateCorrection(clause, fix, Chain([mirror(middle), transform])) for middle in middles]


def mirror(middle_x_mm: float = 0.0) -> Affine:
    """Return the reflection about a sagittal plane: left for right."""
    matrix = np.diag([-1.0, 1.0, 1.0, 1.0])
    matrix[0, 3] = 2 * middle_x_mm
    return Affine(matrix)


def _of_others(others: Mapping[str, PointTransform]) -> Iterable[CandidateCorrection]:
    for name, other in others.items():
        fix = f"exchange the files of this brain and sub-{name}"
        yield CandidateCorrection(f"the transform belongs to another brain: that of sub-{name} fits", fix, other)
        clause = f"the transform belongs to another brain, that of sub-{name} fits, given backwards"
        yield CandidateCorrection(clause, fix, other.inverse(), changes=2)


def _flatten(transform: PointTransform) -> tuple[list[PointTransform], list[str]]:
    """Return the members of nested chains in the order in which they are applied, and their names in messages."""
    if not isinstance(transform, Chain):
        return [transform], [_kind(transform)]
    members: list[PointTransform] = []
    names: list[str] = []
    for i, member in enumerate(transform.members):
        inner, inner_names = _flatten(member)
        members += inner
        if i >= len(transform.names):
            names += inner_names
        elif len(inner) == 1:
            names.append(transform.names[i])
        else:
            names += [f"{own} of {transform.names[i]}" for own in inner_names]
    if len(set(names)) < len(names):
        names = [f"member {i} ({name})" for i, name in enumerate(names, start=1)]
    return members, names


def _kind(transform: PointTransform) -> str:
    if isinstance(transform, Affine):
        return "the affine"
    if isinstance(transform, Field):
        return f"the {transform.kind}"
    return f"the inverse of {_kind(transform.field)}" if isinstance(transform, FieldInverse) else "a transform"
