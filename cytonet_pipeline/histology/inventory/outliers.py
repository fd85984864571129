"""Which sections of a brain differ from the others: outliers, and scans that occur twice.

Each figure is compared with what the neighbours in the series lead to expect (a robust line through the six nearest);
figures that do not follow anatomy are also compared with the brain's median. Differences are measured in robust
standard deviations (1.4826 × the median absolute deviation; Rousseeuw and Croux 1993). A section is named if it is more
than 5 of them away and the difference is relevant by itself: otherwise everything in an even series would be an
outlier.

Brains of fewer than `FEWEST` sections are not judged this way, nor are sections with little tissue, where anatomy
changes from one to the next: towards the poles they are all cortex, and then empty.

Caveat: the thresholds were set on the same series that the tests use, 67 mouse sections and three brains with
the anatomy of Colin-27; on other stains and scanners they are a start.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cytonet_pipeline.histology.quality.picture_hash import hash_distances

FEWEST = 8
_NEIGHBOURS = 6
_LIMIT = 5.0
_MAD_TO_SIGMA = 1.4826
# Tissue, as a fraction of the brain's median: below the first a section is not judged, below the second only by
# its neighbours.
_LITTLE, _ENOUGH = 0.25, 0.5
# Copies of one scan, recompressed, shifted or brightened, differ in at most 0.03 of the bits; sections of a mouse brain
# that are 20 µm apart in 0.043 and more.
SAME_PICTURE = 0.03


@dataclass(frozen=True)
class Rule:
    """One way in which a section may differ.

    Attributes
    ----------
    finding : str
        What it is called.
    column : str
        The figure.
    sign : int
        +1 if too large a value is wrong, -1 if too small a one is.
    least : float
        Smallest difference that matters, a factor if `ratio`.
    ratio : bool
        Whether factors are compared, not differences.
    anatomy : bool
        Whether the figure follows anatomy, so that only neighbours can be compared.
    text : str
        The message, with `{value}`, `{expected}` and the remedy.
    """

    finding: str
    column: str
    sign: int
    least: float
    ratio: bool
    anatomy: bool
    text: str


_LOOK = "look at the scan, and withdraw or replace it if it is unfit."
RULES = (
    Rule(
        "blurred",
        "focus",
        -1,
        1.6,
        True,
        False,
        "blurred: focus {value:.3g}, the series has {expected:.3g}; scan it again, or withdraw it.",
    ),
    Rule(
        "overstained",
        "staining",
        1,
        1.3,
        True,
        False,
        "overstained: optical density {value:.3g}, the series has {expected:.3g}; " + _LOOK,
    ),
    Rule(
        "pale",
        "staining",
        -1,
        1.3,
        True,
        False,
        "pale: optical density {value:.3g}, the series has {expected:.3g}; " + _LOOK,
    ),
    Rule(
        "saturated",
        "saturation",
        1,
        0.02,
        False,
        False,
        "saturated: {value:.1%} of its pixels are black or white, in the series {expected:.1%}; scan it again with "
        "another exposure, or withdraw it.",
    ),
    Rule(
        "background",
        "background",
        1,
        8.0,
        False,
        False,
        "the slide is lighter than in the series ({value:.0f}, not {expected:.0f}); " + _LOOK,
    ),
    Rule(
        "background",
        "background",
        -1,
        8.0,
        False,
        False,
        "the slide is darker than in the series ({value:.0f}, not {expected:.0f}); " + _LOOK,
    ),
    Rule(
        "folded",
        "folds",
        1,
        0.3,
        False,
        False,
        "folded: a dark line of {value:.2f} in the tissue, its neighbours have {expected:.2f}; " + _LOOK,
    ),
    Rule(
        "torn",
        "tears",
        1,
        0.004,
        False,
        True,
        "torn: bare lines over {value:.1%} of the tissue, its neighbours have {expected:.1%}; " + _LOOK,
    ),
    Rule(
        "torn",
        "wide_tears",
        1,
        0.008,
        False,
        True,
        "torn: wide bare lines over {value:.1%} of the tissue, its neighbours have {expected:.1%}; " + _LOOK,
    ),
    Rule(
        "tissue missing",
        "tissue_mm2",
        -1,
        1.25,
        True,
        True,
        "tissue missing: {value:.4g} mm² of it, its neighbours lead to expect {expected:.4g}; " + _LOOK,
    ),
    Rule(
        "too much tissue",
        "tissue_mm2",
        1,
        1.25,
        True,
        True,
        "too much tissue: {value:.4g} mm² of it, its neighbours lead to expect {expected:.4g}; dirt, or another "
        "section on the slide? Look at the scan.",
    ),
)


@dataclass(frozen=True)
class SectionFinding:
    """Something odd about one section: its name, and a sentence with the remedy."""

    name: str
    text: str


def compare(sections: pd.DataFrame, positions: np.ndarray) -> list[list[SectionFinding]]:
    """Find what is odd about each section, in the order of the rows.

    Parameters
    ----------
    sections : DataFrame
        Rows of `section_scans` of one brain that were opened and measured.
    positions : (N,) array
        Position of each in the series, in any unit.
    """
    findings: list[list[SectionFinding]] = [[] for _ in range(len(sections))]
    area = sections["width_px"] * sections["height_px"] * sections["pixel_um"] ** 2 / 1e6
    figures = sections.assign(tissue_mm2=area * sections["tissue_fraction"])
    tissue = figures["tissue_mm2"].to_numpy(np.float64) / max(float(figures["tissue_mm2"].median()), 1e-9)
    for rule in RULES if len(sections) >= FEWEST else ():
        for row, value, expected in _outliers(rule, figures[rule.column].to_numpy(np.float64), positions, tissue):
            findings[row].append(SectionFinding(rule.finding, rule.text.format(value=value, expected=expected)))
    for row, text in _duplicates(sections):
        findings[row].append(SectionFinding("duplicate", text))
    return findings


def _outliers(
    rule: Rule, values: np.ndarray, positions: np.ndarray, tissue: np.ndarray
) -> Iterator[tuple[int, float, float]]:
    """Yield row, value and expectation of each outlier; `tissue` is the area as a fraction of the brain's median."""
    known = np.flatnonzero(np.isfinite(values) & ((values > 0) | (not rule.ratio)))
    if known.size < FEWEST:
        return
    figures = np.log(values[known]) if rule.ratio else values[known]
    least = np.log(rule.least) if rule.ratio else rule.least
    # By the tissue of the neighbours: a section that lacks tissue must not go unjudged for that very reason.
    near_tissue = tissue_around(tissue[known], positions[known])
    expectations = [(expected_from_neighbours(figures, positions[known]), near_tissue > _LITTLE)]
    if not rule.anatomy:
        expectations.append((np.full(known.size, np.median(figures)), near_tissue > _ENOUGH))
    away = [rule.sign * (figures - expected) for expected, _ in expectations]
    far = [judged & (a > least) & (a > _LIMIT * _spread(a)) for a, (_, judged) in zip(away, expectations, strict=True)]
    for at in np.flatnonzero(np.any(far, axis=0)):
        which = int(np.argmax([f[at] for f in far]))
        expected = expectations[which][0][at]
        yield int(known[at]), float(values[known[at]]), float(np.exp(expected) if rule.ratio else expected)


def _spread(differences: np.ndarray) -> float:
    return float(_MAD_TO_SIGMA * np.median(np.abs(differences - np.median(differences))))


def tissue_around(tissue: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return the smaller of the nearest neighbours' tissue on both sides, (N,); the section's own is left out."""
    order = np.argsort(positions, kind="stable")
    sorted_tissue = np.pad(tissue[order], 1, mode="edge")
    smaller = np.empty_like(tissue)
    smaller[order] = np.minimum(sorted_tissue[:-2], sorted_tissue[2:])
    return smaller


def expected_from_neighbours(figures: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return the value that the neighbours in the series lead to expect of each section, (N,).

    The line of Theil (1950) and Sen (1968) through the nearest six: the median of the slopes between all pairs, and the
    median of the remainders; one or two bad neighbours do not bend it.
    """
    expected = np.empty(len(figures))
    for at in range(len(figures)):
        distance = np.abs(positions - positions[at])
        distance[at] = np.inf
        near = np.argsort(distance, kind="stable")[: min(_NEIGHBOURS, len(figures) - 1)]
        run, rise = (np.subtract.outer(v[near], v[near])[np.triu_indices(len(near), 1)] for v in (positions, figures))
        sloped = run != 0
        slope = float(np.median(rise[sloped] / run[sloped])) if sloped.any() else 0.0
        expected[at] = np.median(figures[near] + slope * (positions[at] - positions[near]))
    return expected


def _duplicates(sections: pd.DataFrame) -> Iterator[tuple[int, str]]:
    """Yield rows that show the same as another one: the same file, or nearly the same picture."""
    samples, digests = sections["sample"].to_list(), sections["digest"].to_numpy()
    hashed = np.flatnonzero(sections["picture_hash"].notna())
    near = np.zeros((len(sections), len(sections)), bool)
    near[np.ix_(hashed, hashed)] = hash_distances(sections["picture_hash"].iloc[hashed].to_list()) <= SAME_PICTURE
    same = digests[:, None] == digests[None, :]
    np.fill_diagonal(near, False)
    np.fill_diagonal(same, False)
    for row in np.flatnonzero((near | same).any(axis=1)):
        others = ", ".join(samples[i] for i in np.flatnonzero(near[row] | same[row])[:3])
        how = "the same file as" if same[row].any() else "nearly the same picture as"
        yield int(row), f"duplicate: {how} section {others}; withdraw the one that is not what its name says."
