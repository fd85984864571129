"""What a transform would be if it had been handed over rightly: one candidate for each mistake that people make.

The other direction, Warp for InverseWarp, a member that should have been inverted, LPS for RAS, left for right, another
brain's file. Which of them explains a brain is decided in `direction` and `round_trip`.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cytonet_pipeline.registration.transforms.inverse import FieldInverse
from cytonet_pipeline.registration.transforms.kinds import Affine, Chain, Field, PointTransform

LPS_TO_RAS = Affine(np.diag([-1.0, -1.0, 1.0, 1.0]))
_RECIPES = "docs/transforms.md#ants has the recipes"
# Chains of three members and more are searched for one mistake at a time: their combinations are too many.
_ALL_COMBINATIONS_OF = 2


@dataclass(frozen=True)
class Correction:
    """A transform without one mistake.

    Attributes
    ----------
    mistake : str
        The mistake, as a clause.
    to_fix : str
        What to do about it.
    transform : PointTransform
        What would be right.
    changes : int
        How many things would have gone wrong at once: of two that fit alike the simpler one is meant.
    """

    mistake: str
    to_fix: str
    transform: PointTransform
    changes: int = 1


def corrections(
    transform: PointTransform, others: Mapping[str, PointTransform], middle_x_mm: float
) -> list[Correction]:
    """Every candidate for a transform from brain to reference.

    Parameters
    ----------
    others : mapping
        Transforms to the reference that other brains have, by name.
    middle_x_mm : float
        Where the brain's own middle lies: a scan that is turned over is mirrored there, not at x = 0.
    """
    return [
        _backwards(transform),
        *rearrangements(transform),
        *_conventions(transform),
        *_mirrored(transform, middle_x_mm),
        Correction(
            "the transform makes it worse: no transform at all fits better",
            "check that the file belongs to this brain and leads to MNIColin27",
            Affine(np.eye(4)),
        ),
        *_of_others(others),
    ]


def rearrangements(transform: PointTransform) -> list[Correction]:
    """The same members the other way round, in another order, or with another convention."""
    members, names = _flat(transform)
    if len(members) < 2:
        return []
    found = []
    for order, flips in _arrangements(members):
        clauses = [f"{names[i]} is taken the wrong way round, {_habit(members[i])}" for i in flips]
        if order != tuple(range(len(members))):
            clauses.append(f"{', '.join(names)} are applied in the wrong order")
        fixed = [members[i].inverse() if i in flips else members[i] for i in order]
        fix = f"exchange the file, its `invert`, or the order in the chain; {_RECIPES}"
        found.append(Correction(" and ".join(clauses), fix, Chain(fixed), len(clauses)))
    for i, name in enumerate(names):
        flipped = Chain([LPS_TO_RAS, members[i], LPS_TO_RAS])
        clause = f"{name} was written for RAS but stands in an ITK file, which is LPS"
        fix = "write its numbers in LPS: x and y with the other sign"
        found.append(Correction(clause, fix, Chain([*members[:i], flipped, *members[i + 1 :]])))
    return found


def _arrangements(members: Sequence[PointTransform]) -> Iterable[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Order, and which members are inverted; without the one that is given and that of the whole inverse."""
    n = len(members)
    as_given, everything = tuple(range(n)), tuple(range(n))
    if n <= _ALL_COMBINATIONS_OF:
        flips: list[tuple[int, ...]] = [c for k in range(n + 1) for c in itertools.combinations(range(n), k)]
        found = list(itertools.product(itertools.permutations(range(n)), flips))
    else:
        affine = tuple(i for i in range(n) if isinstance(members[i], Affine))
        warps = tuple(i for i in range(n) if i not in affine)
        some = [*((i,) for i in range(n)), affine, warps, everything]
        found = [(as_given, flip) for flip in dict.fromkeys(some) if flip] + [(as_given[::-1], ())]
    return [entry for entry in found if entry not in ((as_given, ()), (as_given[::-1], everything))]


def _habit(member: PointTransform) -> str:
    if isinstance(member, Affine):
        return "inverted where it should not be, or not where it should"
    return "as when Warp and InverseWarp are exchanged"


def _backwards(transform: PointTransform) -> Correction:
    return Correction(
        "the transform is given backwards: the file holds from-MNIColin27_to-brain, its inverse fits",
        "exchange it with the file of the other direction, or name it in a .json chain with invert: true",
        transform.inverse(),
    )


def _conventions(transform: PointTransform) -> list[Correction]:
    return [
        Correction(
            "the transform was written for RAS but stands in an ITK file, which is LPS: exchanging them fits",
            "write its numbers in LPS: x and y with the other sign",
            Chain([LPS_TO_RAS, transform, LPS_TO_RAS]),
        ),
        Correction(
            "the matrices of the sections lead to LPS instead of RAS: flipping x and y of the brain fits",
            "multiply rows m0. and m1. of the table of matrices with -1",
            Chain([LPS_TO_RAS, transform]),
        ),
        Correction(
            "the transform leads to LPS instead of RAS: flipping x and y of its result fits",
            "write the transform so that it leads to RAS before it is put into an ITK file",
            Chain([transform, LPS_TO_RAS]),
        ),
    ]


def _mirrored(transform: PointTransform, middle_x_mm: float) -> list[Correction]:
    clause = "left and right of the brain are exchanged: mirroring it fits"
    fix = "exchange left and right in the table of matrices: row m0. with the other sign"
    middles = [0.0] if abs(middle_x_mm) < 0.5 else [0.0, middle_x_mm]
    return [Correction(clause, fix, Chain([mirror(middle), transform])) for middle in middles]


def mirror(middle_x_mm: float = 0.0) -> Affine:
    """Left for right, about a sagittal plane."""
    matrix = np.diag([-1.0, 1.0, 1.0, 1.0])
    matrix[0, 3] = 2 * middle_x_mm
    return Affine(matrix)


def _of_others(others: Mapping[str, PointTransform]) -> Iterable[Correction]:
    for name, other in others.items():
        fix = f"exchange the files of this brain and sub-{name}"
        yield Correction(f"the transform belongs to another brain: that of sub-{name} fits", fix, other)
        clause = f"the transform belongs to another brain, that of sub-{name} fits, given backwards"
        yield Correction(clause, fix, other.inverse(), changes=2)


def _flat(transform: PointTransform) -> tuple[list[PointTransform], list[str]]:
    """Members of nested chains in the order in which they act, and what to call them."""
    if not isinstance(transform, Chain):
        return [transform], [_kind(transform)]
    members: list[PointTransform] = []
    names: list[str] = []
    for i, member in enumerate(transform.members):
        inner, inner_names = _flat(member)
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
