"""Retrieval without labels, against scikit-learn, a float64 loop, and what is known of random candidates."""

import logging
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import NearestNeighbors

from cytonet_pipeline.evaluation.features.evaluation_set import evaluation_set
from cytonet_pipeline.evaluation.retrieval import nearest as nearest_module
from cytonet_pipeline.evaluation.retrieval import searches as searches_module
from cytonet_pipeline.evaluation.retrieval.nearest import nearest
from cytonet_pipeline.evaluation.retrieval.retrieval import bounds_of, retrieve
from cytonet_pipeline.evaluation.retrieval.searches import (
    MIRRORED_PLACE,
    NEXT_SECTION,
    OTHER_BRAIN,
    PROTOCOLS,
    Footprints,
    runs_of,
    searches,
)
from cytonet_pipeline.patches import write_index
from cytonet_pipeline.stages import LINEAR_PROBE
from cytonet_pipeline.store import read_record, read_table
from cytonet_pipeline_tests.evaluation.conftest import ENCODER, VERSION

WIDTH_PX = 60


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_nearest_is_that_of_scikit_learn_whatever_the_chunks(monkeypatch, metric):
    random = np.random.default_rng(0)
    queries, candidates = random.normal(size=(70, 9)), random.normal(size=(90, 9))
    _, expected = NearestNeighbors(n_neighbors=1, metric=metric, algorithm="brute").fit(candidates).kneighbors(queries)

    whole = nearest(queries, candidates, metric)
    monkeypatch.setattr(nearest_module, "QUERIES_AT_ONCE", 16)
    monkeypatch.setattr(nearest_module, "CANDIDATES_AT_ONCE", 7)

    assert whole.tolist() == expected[:, 0].tolist()
    assert nearest(queries, candidates, metric).tolist() == whole.tolist()


def test_no_more_than_a_chunk_of_features_is_converted_at_once(monkeypatch):
    """Millions of rows stay float16: only chunks become float32."""
    sizes, on = [], nearest_module._on
    monkeypatch.setattr(nearest_module, "QUERIES_AT_ONCE", 32)
    monkeypatch.setattr(nearest_module, "CANDIDATES_AT_ONCE", 64)
    monkeypatch.setattr(nearest_module, "_on", lambda *inputs: sizes.append(len(inputs[1])) or on(*inputs))

    nearest(np.ones((100, 3), np.float16), np.ones((1000, 3), np.float16))

    assert max(sizes) == 64


def test_barred_pairs_are_passed_over_and_a_query_may_have_no_candidate():
    features = np.eye(3)
    barred = np.array([[True, False, False], [False, True, False], [True, True, True]])

    found = nearest(features, features, "cosine", lambda rows, columns: barred[rows, columns])

    assert found.tolist() == [1, 0, -1]


@pytest.fixture
def small():
    """Three brains, patches on both sides; B01 has two test blocks with a training section between them."""
    random = np.random.default_rng(3)
    sections = [("B01", "1", 1.0, "seen_brains"), ("B01", "2", 2.0, "seen_brains"), ("B01", "3", 3.0, "train"),
                ("B01", "4", 4.0, "seen_brains"), ("B02", "1", 1.0, "train"), ("B20", "1", 1.0, "unseen_brain"),
                ("B20", "2", 2.0, "unseen_brain"), ("B20", "3", 3.0, "unseen_brain")]  # fmt: skip
    columns = ["brain", "sample", "position_mm", "role"]
    rows = pd.DataFrame([s for s in sections for _ in range(12)], columns=columns)
    n = len(rows)
    rows["hemisphere"] = random.choice(["L", "R"], n)
    # Features lie in another order than the rows.
    rows["feature"] = random.permutation(n)
    rows["patch_id"], rows["order"] = np.arange(n, dtype=np.uint64), random.permutation(n).astype(np.uint64)
    rows["x_px"], rows["y_px"] = random.integers(0, 300, n), random.integers(0, 300, n)
    rows["ref_x_mm"] = np.where(rows["hemisphere"] == "L", -1, 1) * random.uniform(0, 60, n)
    rows["ref_y_mm"], rows["ref_z_mm"] = random.uniform(-90, 60, n), random.uniform(-40, 70, n)
    rows = rows.astype({"brain": "category", "sample": "category"})
    section = rows.groupby(["brain", "sample"], observed=True).ngroup().to_numpy()
    at_px = [rows[name].to_numpy(np.int64) for name in ("x_px", "y_px")]
    return SimpleNamespace(
        rows=rows,
        runs=runs_of(pd.DataFrame(sections, columns=columns)),
        features=random.normal(size=(n, 6)).astype(np.float16),
        footprints=Footprints(section, *at_px, np.full(n, float(WIDTH_PX))),
    )


def candidates_of(rows, runs, query, protocol):
    """Every row that a query may find, in words of the definition, one after the other."""
    row, found = rows.loc[query], []
    for other, candidate in rows.iterrows():
        same_brain, same_side = candidate["brain"] == row["brain"], candidate["hemisphere"] == row["hemisphere"]
        if protocol == OTHER_BRAIN and not same_brain and same_side:
            found.append(other)
        if not same_brain or candidate["role"] != row["role"]:
            continue
        one_run = runs[row["brain"], row["sample"]] == runs[candidate["brain"], candidate["sample"]]
        beside = abs(candidate["position_mm"] - row["position_mm"]) == 1
        if protocol == NEXT_SECTION and one_run and beside and same_side:
            found.append(other)
        near_px = all(abs(int(candidate[name]) - int(row[name])) < WIDTH_PX for name in ("x_px", "y_px"))
        overlapping = candidate["sample"] == row["sample"] and near_px
        if protocol == MIRRORED_PLACE and not same_side and not overlapping:
            found.append(other)
    return found


def expected_of(small, protocol, split):
    """By a float64 loop: what each query finds, distances of it, of the best and of all candidates."""
    rows, found, best, every = small.rows, {}, [], []
    units = small.features[rows["feature"]].astype(np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    at_mm = rows[["ref_x_mm", "ref_y_mm", "ref_z_mm"]].to_numpy(np.float64)
    for query in rows.index[rows["role"] == split]:
        candidates = candidates_of(rows, small.runs, query, protocol)
        if not candidates:
            continue
        sought = at_mm[query] * ([-1, 1, 1] if protocol == MIRRORED_PLACE else [1, 1, 1])
        distances = {c: float(np.linalg.norm(at_mm[c] - sought)) for c in candidates}
        nearest_one = max(candidates, key=lambda c: units[query] @ units[c])
        found[query] = (nearest_one, distances[nearest_one])
        best.append(min(distances.values()))
        every += [(distance, 1 / len(distances)) for distance in distances.values()]
    return found, np.median(best), weighted_median(every)


def weighted_median(pairs):
    values, weights = np.array(sorted(pairs)).T
    return values[np.searchsorted(np.cumsum(weights), weights.sum() / 2)]


@pytest.mark.parametrize("split", ["seen_brains", "unseen_brain"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_found_equals_a_loop_over_the_definition(small, protocol, split):
    found, best_mm, chance_mm = expected_of(small, protocol, split)
    of_protocol = [s for s in searches(small.rows, small.runs) if (s.protocol, s.split) == (protocol, split)]

    retrieved = retrieve(small.rows, small.features, of_protocol, "cosine", small.footprints).set_index("patch_id")
    bounds = bounds_of(small.rows, of_protocol, small.footprints)

    assert dict(retrieved["found_id"]) == {query: place for query, (place, _) in found.items()}
    assert retrieved["distance_mm"].to_dict() == pytest.approx({q: mm for q, (_, mm) in found.items()}, rel=1e-5)
    assert bounds.best_mm == pytest.approx(best_mm)
    assert bounds.chance_mm == pytest.approx(chance_mm, abs=0.011)


def test_test_blocks_with_another_section_between_are_no_neighbours(small):
    of_block = [s for s in searches(small.rows, small.runs) if (s.protocol, s.split) == (NEXT_SECTION, "seen_brains")]

    assert set(small.rows.loc[np.concatenate([s.queries for s in of_block]), "sample"]) == {"1", "2"}


def test_there_are_no_more_queries_than_the_limit_and_those_of_the_smallest_order(small, monkeypatch):
    monkeypatch.setattr(searches_module, "MAX_QUERIES", 7)

    of_other = [s for s in searches(small.rows, small.runs) if (s.protocol, s.split) == (OTHER_BRAIN, "unseen_brain")]

    queries = small.rows.loc[np.concatenate([s.queries for s in of_other])]
    unseen = small.rows[small.rows["role"] == "unseen_brain"]
    assert set(queries["order"]) == set(np.sort(unseen["order"])[:7])


def test_chance_on_a_line_is_the_analytic_value():
    """Two places drawn evenly from a line of length a lie (1 - sqrt(1/2)) a apart in the median."""
    n, random = 2000, np.random.default_rng(0)
    rows = pd.DataFrame({"brain": np.repeat(["B01", "B20"], n), "role": np.repeat(["train", "unseen_brain"], n)})
    rows["sample"], rows["hemisphere"], rows["position_mm"] = "1", "L", 0.0
    rows["ref_x_mm"], rows["ref_y_mm"], rows["ref_z_mm"] = 0.0, random.uniform(0, 100, 2 * n), 0.0
    rows["order"] = random.permutation(2 * n).astype(np.uint64)
    found = [s for s in searches(rows, {("B20", "1"): 0}) if s.protocol == OTHER_BRAIN]

    bounds = bounds_of(rows, found, Footprints(np.zeros(1), np.zeros(1), np.zeros(1), np.zeros(1)))

    assert bounds.chance_mm == pytest.approx(100 * (1 - np.sqrt(0.5)), rel=0.03)


def test_a_hemisphere_without_patches_and_a_brain_with_one_section_have_no_queries(small):
    rows = small.rows[(small.rows["hemisphere"] == "L") & small.rows["sample"].isin(["1"])].reset_index(drop=True)

    assert {search.protocol for search in searches(rows, small.runs)} == {OTHER_BRAIN}


def test_a_protocol_without_queries_has_a_row_that_says_so(probed, caplog):
    """Every patch of the made-up data set is given to the left hemisphere: there is no mirrored place."""
    shutil.rmtree(probed.folder / "retrieval")
    for brain, index in probed.indices.items():
        index = index.assign(hemisphere="L")
        index.attrs = probed.indices[brain].attrs
        write_index(probed.store.patch_index(brain), index, probed.settings.experiments.dataset.model_dump(mode="json"))

    with caplog.at_level(logging.WARNING):
        LINEAR_PROBE.run(probed.settings, ENCODER)

    rows = read_table(probed.folder / "retrieval/metrics.parquet", "metrics").set_index(["protocol", "split"])
    assert rows.loc[(MIRRORED_PLACE, "unseen_brain"), "n_patches"] == 0
    assert np.isnan(rows.loc[(MIRRORED_PLACE, "unseen_brain"), "retrieval_mm"])
    assert rows.loc[(OTHER_BRAIN, "unseen_brain"), "n_patches"] > 0
    assert "both hemispheres" in caplog.text
    assert "both hemispheres" in read_record(probed.folder / "retrieval/retrieval.json")["without_queries"][
        f"{MIRRORED_PLACE} unseen_brain"
    ]  # fmt: skip


def test_rows_of_the_table_count_queries_and_lie_between_best_and_chance(probed):
    rows = read_table(probed.folder / "retrieval/metrics.parquet", "metrics")
    retrieved = read_table(probed.folder / "retrieval/retrieved.parquet", "retrieved")
    evaluated = evaluation_set(probed.store, ENCODER, VERSION, probed.settings)

    unseen = rows[rows["split"] == "unseen_brain"].set_index("protocol")
    assert unseen.loc[OTHER_BRAIN, "n_patches"] == (evaluated["role"] == "unseen_brain").sum()
    assert (rows["n_patches"].sum(), len(rows)) == (len(retrieved), 6)
    assert (rows["retrieval_mm"] >= rows["retrieval_best_mm"]).all()
    assert unseen["retrieval_mm_low"].notna().all()
    assert rows["macro_f1"].isna().all()
    assert set(rows["encoder"]) == {ENCODER}
