"""Which sections of a brain differ from the others: outliers, and scans that were taken in twice.

Each figure is compared with what the neighbours in the series lead to expect (a robust line through the six nearest),
and those that do not follow anatomy with the brain's median as well. The distance is measured in robust standard
deviations (1.4826 × the median absolute deviation; Rousseeuw and Croux 1993). A section is named where it is 5 of them
away and the difference also matters by itself: in an even series everything would be an outlier otherwise.

Not judged this way are brains of fewer than `FEWEST` sections, and sections with little tissue, where anatomy changes
from one to the next: towards the poles they are all cortex, and then nothing.

Caveat: the thresholds were set on the series on which the tests then try them, 67 mouse sections and three brains with
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
# Tissue, in parts of the brain's median: below the first a section is not judged, below the second only by neighbours.
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
        +1 if too much is wrong, -1 if too little is.
    least : float
        Smallest difference that matters, a factor if `ratio`.
    ratio : bool
        Whether factors count, not differences.
    anatomy : bool
        Whether the figure follows anatomy, so that only neighbours can be compared.
    text : str
        What to say of it, with `{value}`, `{expected}` and what to do.
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
class Finding:
    """One thing that is odd about one section: its name, and a sentence with what to do."""

    name: str
    text: str


def compare(sections: pd.DataFrame, positions: np.ndarray) -> list[list[Finding]]:
    """Findings of each section, in the order of the rows.

    Parameters
    ----------
    sections : DataFrame
        Rows of `section_scans` of one brain that were opened and measured.
    positions : (N,) array
        Where each lies in the series, in any unit.
    """
    findings: list[list[Finding]] = [[] for _ in range(len(sections))]
    area = sections["width_px"] * sections["height_px"] * sections["pixel_um"] ** 2 / 1e6
    figures = sections.assign(tissue_mm2=area * sections["tissue_fraction"])
    tissue = figures["tissue_mm2"].to_numpy(np.float64) / max(float(figures["tissue_mm2"].median()), 1e-9)
    for rule in RULES if len(sections) >= FEWEST else ():
        for row, value, expected in _outliers(rule, figures[rule.column].to_numpy(np.float64), positions, tissue):
            findings[row].append(Finding(rule.finding, rule.text.format(value=value, expected=expected)))
    for row, text in _duplicates(sections):
        findings[row].append(Finding("duplicate", text))
    return findings


def _outliers(
    rule: Rule, values: np.ndarray, positions: np.ndarray, tissue: np.ndarray
) -> Iterator[tuple[int, float, float]]:
    """Row, value and expectation of each outlier; `tissue` is its area in parts of the brain's median."""
    known = np.flatnonzero(np.isfinite(values) & ((values > 0) | (not rule.ratio)))
    if known.size < FEWEST:
        return
    figures = np.log(values[known]) if rule.ratio else values[known]
    least = np.log(rule.least) if rule.ratio else rule.least
    # By the tissue of its neighbours: a section that lacks tissue must not stay unjudged for just that.
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
    """The least of a section's own nearest neighbours on both sides, (N,); its own does not count."""
    order = np.argsort(positions, kind="stable")
    sorted_tissue = np.pad(tissue[order], 1, mode="edge")
    found = np.empty_like(tissue)
    found[order] = np.minimum(sorted_tissue[:-2], sorted_tissue[2:])
    return found


def expected_from_neighbours(figures: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """What the neighbours in the series lead to expect of each section, (N,).

    The line of Theil (1950) and Sen (1968) through the nearest six: the median of the slopes between each two, and of
    what it leaves; one or two bad neighbours do not bend it.
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
    """Rows that show the same as another one: the same file, or nearly the same picture."""
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
