"""Search, measure and store: rows of the table of results that need no label.

The measure is the median, over queries, of the distance in Colin-27 from the place sought to the patch found. Two
bounds stand beside it. Chance is the median over queries and candidates, each query with the same weight: what a
candidate taken at random gives. The best is what the candidates nearest to the places sought give. What the stain and
other grey statistics give away is the row of the `intensity` control.
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from cytonet_pipeline.evaluation.features.embedding_store import read_embeddings
from cytonet_pipeline.evaluation.features.evaluation_set import (
    encoder_sections,
    evaluation_set,
    section_positions_mm,
)
from cytonet_pipeline.evaluation.metrics.intervals import median_interval
from cytonet_pipeline.evaluation.probes.metric_rows import Identity, identity_of
from cytonet_pipeline.evaluation.retrieval.nearest import Barred, FeatureRows, nearest
from cytonet_pipeline.evaluation.retrieval.searches import (
    MIRRORED_PLACE,
    PROTOCOLS,
    Footprints,
    Search,
    place_sought_mm,
    runs_of,
    searches,
)
from cytonet_pipeline.learning.measures import Metric
from cytonet_pipeline.patches import TEST_ROLES
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import REFERENCE_MM, Store, atomic_folder, table, write_record, write_stamp, write_table

# Chance is measured on this many candidates of a search at most, those with the smallest `order`.
_CHANCE_CANDIDATES = 500
_CHANCE_QUERIES_AT_ONCE = 4096
_BIN_MM = 0.01

_log = logging.getLogger(__name__)

_WHY_NONE = {
    "retrieval_next_section": "no held-out section has a neighbour that is held out, too",
    "retrieval_mirrored_place": "no brain has patches of both hemispheres in held-out sections",
    "retrieval_other_brain": "no held-out section, or no other brain, has patches with features",
}


@dataclass(frozen=True)
class Bounds:
    """What retrieval can be compared with: medians in mm of random and of the nearest candidates."""

    chance_mm: float
    best_mm: float


def write_retrieval(folder: Path, encoder: str, version: str, settings: Settings, store: Store, inputs: Any) -> None:
    """Write `retrieved.parquet` and the rows of the table of results for one encoder, with the stamp of their inputs.

    Protocols without any query have a row without values, and `retrieval.json` says why.
    """
    started = time.perf_counter()
    rows, features = _rows_with_features(store, encoder, version, settings)
    metric: Metric = "euclidean" if settings.encoder(encoder).method == "position" else "cosine"
    sections = _placed_sections(store, encoder, version, rows)
    found = searches(rows, runs_of(sections))
    footprints = _footprints(rows, sections, settings.experiments.dataset.patch_um)
    retrieved = retrieve(rows, features, found, metric, footprints)
    block = settings.experiments.evaluation
    resampling = (settings.experiments.dataset.gap_mm, block.bootstrap, block.seed)
    bounds = {key: bounds_of(rows, [s for s in found if (s.protocol, s.split) == key], footprints)
              for key in dict.fromkeys((s.protocol, s.split) for s in found)}  # fmt: skip
    metrics = retrieval_rows(retrieved, rows, bounds, identity_of(encoder, version, settings, store), resampling)
    reasons = {f"{p} {s}": _WHY_NONE[p] for p in PROTOCOLS for s in TEST_ROLES if (p, s) not in bounds}
    for name, reason in reasons.items():
        _log.warning("encoder %s: no %s: %s", encoder, name, reason)
    seconds = round(time.perf_counter() - started, 2)
    with atomic_folder(folder) as writing:
        write_table(writing / "retrieved.parquet", retrieved, "retrieved")
        write_table(writing / "metrics.parquet", metrics, "metrics")
        write_record(writing / "retrieval.json", {"metric": metric, "without_queries": reasons, "seconds": seconds})
        write_stamp(writing, inputs)
    _log.info("encoder %s: retrieval of %d queries in %.1f s", encoder, len(retrieved), seconds)


def retrieve(
    rows: pd.DataFrame, features: np.ndarray, found: list[Search], metric: Metric, footprints: Footprints
) -> pd.DataFrame:
    """Look for the nearest features of each query (table `retrieved`).

    Parameters
    ----------
    rows : DataFrame
        Evaluation set, index 0 … N-1, `brain` and `sample` as categories; `feature` is each row's row of `features`.
    features : (M, D) array
    """
    ids, at, at_mm = rows["patch_id"].to_numpy(), rows["feature"].to_numpy(), rows[list(REFERENCE_MM)].to_numpy(float)
    parts = [pd.DataFrame({c.name: pd.Series(dtype=c.pandas_type) for c in table("retrieved").columns})]
    for search in found:
        barred = _barred(search, footprints)
        queries, candidates = (FeatureRows(features, at[chosen]) for chosen in (search.queries, search.candidates))
        place = nearest(queries, candidates, metric, barred)
        sought, chosen = search.queries[place >= 0], search.candidates[place[place >= 0]]
        sought_mm = place_sought_mm(rows.iloc[sought], search.protocol)
        parts.append(
            pd.DataFrame(
                {
                    "protocol": search.protocol,
                    "split": search.split,
                    "patch_id": ids[sought],
                    "found_id": ids[chosen],
                    "distance_mm": np.linalg.norm(sought_mm - at_mm[chosen], axis=1),
                    "n_candidates": len(search.candidates),
                }
            )
        )
    return table("retrieved").validate(pd.concat(parts, ignore_index=True))


def bounds_of(rows: pd.DataFrame, found: list[Search], footprints: Footprints) -> Bounds:
    """Return chance and the best of the searches of one protocol and split; the same for every encoder."""
    at_mm, order = rows[list(REFERENCE_MM)].to_numpy(np.float64), rows["order"].to_numpy(np.uint64)
    weights = np.zeros(1)
    best: list[np.ndarray] = []
    for search in found:
        sought_mm = place_sought_mm(rows.iloc[search.queries], search.protocol)
        barred = _barred(search, footprints)
        best.append(_best_mm(sought_mm, at_mm[search.candidates], barred))
        sample = search.candidates[np.argsort(order[search.candidates], kind="stable")[:_CHANCE_CANDIDATES]]
        of_search = Search(search.protocol, search.split, search.queries, sample)
        weights = _summed(weights, _distance_weights(sought_mm, at_mm[sample], _barred(of_search, footprints)))
    share = np.cumsum(weights) / max(weights.sum(), 1e-300)
    chance_mm = (np.searchsorted(share, 0.5) + 0.5) * _BIN_MM if weights.sum() > 0 else np.nan
    values = np.concatenate(best)
    values = values[np.isfinite(values)]
    return Bounds(float(chance_mm), float(np.median(values)) if len(values) else np.nan)


def retrieval_rows(
    retrieved: pd.DataFrame,
    rows: pd.DataFrame,
    bounds: dict[tuple[str, str], Bounds],
    identity: Identity,
    resampling: tuple[float, int, int],
) -> pd.DataFrame:
    """Return one row per protocol and split (table `metrics`); `n_patches` is the number of queries.

    Parameters
    ----------
    resampling : tuple
        The gap (mm), the number of resamplings and the seed, as of the probes.
    """
    places = rows[["patch_id", "brain", "sample", "position_mm"]].astype({"brain": str, "sample": str})
    placed = retrieved.merge(places, on="patch_id")
    made = []
    for protocol in PROTOCOLS:
        for split in TEST_ROLES:
            of_split = placed[(placed["protocol"] == protocol) & (placed["split"] == split)].reset_index(drop=True)
            low, high = median_interval(of_split, *resampling)
            bound = bounds.get((protocol, split), Bounds(np.nan, np.nan))
            made.append(
                {
                    **vars(identity),
                    "protocol": protocol,
                    "labels_per_area": 0,
                    "draw": 0,
                    "split": split,
                    "n_brains": of_split["brain"].nunique(),
                    "n_sections": len(of_split[["brain", "sample"]].drop_duplicates()),
                    "n_patches": len(of_split),
                    "n_areas": 0,
                    "retrieval_mm": of_split["distance_mm"].median(),
                    "retrieval_mm_low": low,
                    "retrieval_mm_high": high,
                    "retrieval_chance_mm": bound.chance_mm,
                    "retrieval_best_mm": bound.best_mm,
                }
            )
    return pd.DataFrame(made).reindex(columns=[column.name for column in table("metrics").columns])


def _rows_with_features(
    store: Store, encoder: str, version: str, settings: Settings
) -> tuple[pd.DataFrame, np.ndarray]:
    """Read the evaluation set and all features; `feature` is the row of each patch in these. Names are categories."""
    rows = evaluation_set(store, encoder, version, settings)
    patch_ids, features = read_embeddings(store, encoder, version, dtype=np.float16)
    place = pd.Series(np.arange(len(patch_ids)), index=patch_ids).reindex(rows["patch_id"].to_numpy())
    known = place.notna().to_numpy()
    rows = rows[known].reset_index(drop=True).astype({"brain": "category", "sample": "category"})
    return rows.assign(feature=place[known].to_numpy(np.int64)), features


def _placed_sections(store: Store, encoder: str, version: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the sections of the brains that have rows, gaps included, with `position_mm`."""
    sections = encoder_sections(store, encoder, version)
    sections = sections[sections["brain"].isin(rows["brain"].cat.categories)].reset_index(drop=True)
    positions = {brain: section_positions_mm(store, str(brain)) for brain in sections["brain"].unique()}
    sections["position_mm"] = [
        positions[brain].get(sample, np.nan)
        for brain, sample in zip(sections["brain"], sections["sample"], strict=True)
    ]
    return sections


def _footprints(rows: pd.DataFrame, sections: pd.DataFrame, patch_um: float) -> Footprints:
    pixel_um = dict(zip(zip(sections["brain"], sections["sample"], strict=True), sections["pixel_um"], strict=True))
    return Footprints(
        section=rows.groupby(["brain", "sample"], observed=True).ngroup().to_numpy(),
        x_px=rows["x_px"].to_numpy(np.int64),
        y_px=rows["y_px"].to_numpy(np.int64),
        width_px=np.array([patch_um / pixel_um[key] for key in zip(rows["brain"], rows["sample"], strict=True)]),
    )


def _barred(search: Search, footprints: Footprints) -> Barred | None:
    if search.protocol != MIRRORED_PLACE:
        return None
    return lambda queries, candidates: footprints.overlap(search.queries[queries], search.candidates[candidates])


def _best_mm(sought_mm: np.ndarray, candidates_mm: np.ndarray, barred: Barred | None) -> np.ndarray:
    """Return the distance from each place sought to the nearest candidate, (M,); NaN where there is none."""
    if barred is None:
        distances, _ = cKDTree(candidates_mm).query(sought_mm)
        return np.asarray(distances)
    place = nearest(sought_mm, candidates_mm, "euclidean", barred)
    distances = np.linalg.norm(sought_mm - candidates_mm[place], axis=1)
    return np.where(place >= 0, distances, np.nan)


def _distance_weights(sought_mm: np.ndarray, candidates_mm: np.ndarray, barred: Barred | None) -> np.ndarray:
    """Return how much of the queries lies in each bin of distance; candidates share the weight of their query."""
    total = np.zeros(1)
    for start in range(0, len(sought_mm), _CHANCE_QUERIES_AT_ONCE):
        part = slice(start, start + _CHANCE_QUERIES_AT_ONCE)
        bins = (cdist(sought_mm[part], candidates_mm) / _BIN_MM).astype(np.int64)
        allowed = np.ones(bins.shape, bool)
        if barred is not None:
            allowed = ~barred(part, slice(0, len(candidates_mm)))
        share = allowed / np.maximum(allowed.sum(axis=1, keepdims=True), 1)
        total = _summed(total, np.bincount(bins.ravel(), share.ravel()))
    return total


def _summed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    total = np.zeros(max(len(first), len(second)))
    total[: len(first)] += first
    total[: len(second)] += second
    return total
