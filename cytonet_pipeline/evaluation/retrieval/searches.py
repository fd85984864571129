"""What is searched for where: the three retrieval protocols as sets of queries and of candidates.

retrieval_next_section     the place itself, in the sections before and after it, held out together with it
retrieval_mirrored_place   the mirrored place (Colin-27, x → −x), in the brain's other hemisphere
retrieval_other_brain      the place itself, in all other brains

The first and the third look in the hemisphere of the query: cells do not tell left from right, and the median of a
mixture of near hits and of their mirror images would say nothing.

Queries are patches of held-out sections: test sections of seen brains, and all sections of the unseen one. Candidates
of the first two are held out like their queries; those of the third are all patches of other brains that have features,
trained on or not. Nothing here looks at a label, though annotated patches are most of those that have features.

A patch is never its own candidate. In the other hemisphere of its own section, patches that overlap with it are none
either: pixels that both show would find each other, at the midline, near the mirrored place.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cytonet_pipeline.patches import TEST_ROLES
from cytonet_pipeline.store import REFERENCE_MM

NEXT_SECTION, MIRRORED_PLACE, OTHER_BRAIN = (
    "retrieval_next_section", "retrieval_mirrored_place", "retrieval_other_brain",
)  # fmt: skip
PROTOCOLS = (NEXT_SECTION, MIRRORED_PLACE, OTHER_BRAIN)
# Most queries per protocol and split, those with the smallest `order`; medians are then known to a percent or two.
MAX_QUERIES = 10_000


@dataclass(frozen=True)
class Search:
    """Queries that share their candidates.

    Attributes
    ----------
    protocol, split : str
    queries, candidates : (M,), (N,) int arrays
        Rows of the evaluation set; neither is empty.
    """

    protocol: str
    split: str
    queries: np.ndarray
    candidates: np.ndarray


def searches(rows: pd.DataFrame, runs: Mapping[tuple[str, str], int]) -> list[Search]:
    """Return all searches of the three protocols.

    Parameters
    ----------
    rows : DataFrame
        Patches with features: `brain`, `sample`, `role`, `position_mm`, `hemisphere`, `order`; index 0 … N-1.
    runs : mapping
        Number of the run of each section by brain and sample, as `runs_of` returns it.
    """
    found = [search for split in TEST_ROLES for of_protocol in (_next_section(rows, split, runs),
             _mirrored_place(rows, split), _other_brain(rows, split)) for search in of_protocol]  # fmt: skip
    kept = _kept_queries(found, rows["order"].to_numpy(np.uint64))
    fewer = (Search(s.protocol, s.split, s.queries[kept[s.protocol, s.split][s.queries]], s.candidates) for s in found)
    return [search for search in fewer if len(search.queries)]


def runs_of(sections: pd.DataFrame) -> dict[tuple[str, str], int]:
    """Number the runs of sections of one role that follow one another in their brain.

    Parameters
    ----------
    sections : DataFrame
        All sections that an encoder knows of, those in gaps included: `brain`, `sample`, `role`, `position_mm`.
    """
    ordered = sections.sort_values(["brain", "position_mm"], kind="stable")
    changed = (ordered[["brain", "role"]] != ordered[["brain", "role"]].shift()).any(axis=1)
    return dict(zip(zip(ordered["brain"], ordered["sample"], strict=True), changed.cumsum().astype(int), strict=True))


def place_sought_mm(rows: pd.DataFrame, protocol: str) -> np.ndarray:
    """Return the place in Colin-27 that each row seeks, (N, 3) float64 in mm."""
    place = rows[list(REFERENCE_MM)].to_numpy(np.float64)
    return place * np.array([-1.0, 1.0, 1.0]) if protocol == MIRRORED_PLACE else place


@dataclass(frozen=True)
class Footprints:
    """Where each row's patch lies in its section.

    Attributes
    ----------
    section : (N,) int array
        Number of its section.
    x_px, y_px : (N,) int arrays
        Its centre in full-resolution pixels.
    width_px : (N,) array
        Its edge in full-resolution pixels.
    """

    section: np.ndarray
    x_px: np.ndarray
    y_px: np.ndarray
    width_px: np.ndarray

    def overlap(self, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Return which of some rows (M,) and of others (N,) lie in the same section and share pixels, (M, N) bool."""
        shared = self.section[queries][:, None] == self.section[candidates]
        q, c = np.nonzero(shared)
        width_px = self.width_px[queries[q]]
        for at_px in (self.x_px, self.y_px):
            shared[q, c] &= np.abs(at_px[queries[q]] - at_px[candidates[c]]) < width_px
        return shared


def _next_section(rows: pd.DataFrame, split: str, runs: Mapping[tuple[str, str], int]) -> Iterator[Search]:
    for _, of_side in rows[rows["role"] == split].groupby("hemisphere", sort=True, observed=True):
        yield from _next_section_of(of_side, split, runs)


def _next_section_of(of_split: pd.DataFrame, split: str, runs: Mapping[tuple[str, str], int]) -> Iterator[Search]:
    sections = of_split.groupby(["brain", "sample"], sort=False, observed=True)["position_mm"].first().reset_index()
    sections["run"] = [runs[brain, sample] for brain, sample in zip(sections["brain"], sections["sample"], strict=True)]
    patches = of_split.groupby(["brain", "sample"], sort=False, observed=True).indices
    place = of_split.index.to_numpy()
    for (brain, _), run in sections.groupby(["brain", "run"], sort=True, observed=True):
        samples = list(run.sort_values("position_mm", kind="stable")["sample"])
        for number, sample in enumerate(samples):
            beside = [*samples[max(number - 1, 0) : number], *samples[number + 1 : number + 2]]
            if beside:
                candidates = np.sort(np.concatenate([place[patches[brain, other]] for other in beside]))
                yield Search(NEXT_SECTION, split, place[patches[brain, sample]], candidates)


def _mirrored_place(rows: pd.DataFrame, split: str) -> Iterator[Search]:
    of_split = rows[rows["role"] == split]
    for _, of_brain in of_split.groupby("brain", sort=True, observed=True):
        sides = [of_brain.index[of_brain["hemisphere"] == side].to_numpy() for side in "LR"]
        if len(sides[0]) and len(sides[1]):
            yield Search(MIRRORED_PLACE, split, sides[0], sides[1])
            yield Search(MIRRORED_PLACE, split, sides[1], sides[0])


def _other_brain(rows: pd.DataFrame, split: str) -> Iterator[Search]:
    of_split = rows[rows["role"] == split]
    for (brain, side), of_brain in of_split.groupby(["brain", "hemisphere"], sort=True, observed=True):
        others = rows.index[(rows["brain"] != brain) & (rows["hemisphere"] == side)].to_numpy()
        if len(others):
            yield Search(OTHER_BRAIN, split, of_brain.index.to_numpy(), others)


def _kept_queries(found: list[Search], order: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
    """Return which rows are queries of each protocol and split, (rows,) bool: at most `MAX_QUERIES`."""
    kept = {}
    for key in dict.fromkeys((search.protocol, search.split) for search in found):
        queries = np.concatenate([s.queries for s in found if (s.protocol, s.split) == key])
        chosen = queries[np.argsort(order[queries], kind="stable")[:MAX_QUERIES]]
        kept[key] = np.isin(np.arange(len(order)), chosen)
    return kept
