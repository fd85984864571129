"""UMAP and what goes with it. The compiler behind UMAP takes seconds: everything here shares one store and one fit."""

import warnings
from types import SimpleNamespace

import nibabel
import numpy as np
import pandas as pd
import pytest

from cytonet_pipeline.errors import DataFault
from cytonet_pipeline.evaluation.embedding_analysis import projection
from cytonet_pipeline.evaluation.embedding_analysis.reduction import align, principal_components, umap_coordinates
from cytonet_pipeline.settings import EvaluationBlock
from cytonet_pipeline.stages import UMAP_PLOTS
from cytonet_pipeline.store import read_record, read_table
from cytonet_pipeline_tests.evaluation.conftest import ENCODER, VERSION, copied


@pytest.fixture(scope="module")
def projected(_made_once, small_brains, tmp_path_factory):
    """The made-up store with its UMAP, on the surfaces of the synthetic reference."""
    made = copied(_made_once, tmp_path_factory.mktemp("projected"))
    settings = made.settings.model_copy(update={"reference": small_brains / "tpl-MNIColin27"})
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        UMAP_PLOTS.run(settings, ENCODER)
        folder = UMAP_PLOTS.folder(settings, ENCODER)
    return SimpleNamespace(folder=folder, settings=settings, store=made.store, indices=made.indices, warned=warned)


def test_every_fifth_patch_has_coordinates(projected):
    points = read_table(projected.folder / "umap.parquet", "umap")
    every = projected.settings.experiments.evaluation.umap_every
    used = {brain: set(index["patch_id"]) for brain, index in projected.indices.items()}

    assert np.isfinite(points[["umap_1", "umap_2"]].to_numpy()).all()
    for ids in used.values():
        # Patches of gap sections (3 of 40) are not evaluated at all.
        assert sum(p in ids for p in points["patch_id"]) == pytest.approx(len(ids) / every, rel=0.1)


def test_the_first_axis_rises_towards_anterior(projected):
    points = read_table(projected.folder / "umap.parquet", "umap")
    index = pd.concat(projected.indices.values())
    joined = points.merge(index[["patch_id", "ref_y_mm"]], on="patch_id")

    assert np.corrcoef(joined["umap_1"], joined["ref_y_mm"])[0, 1] >= 0


def test_a_second_call_computes_nothing(projected, monkeypatch):
    monkeypatch.setattr(projection, "project", lambda *a: pytest.fail("computed again"))

    UMAP_PLOTS.run(projected.settings, ENCODER)

    assert UMAP_PLOTS.is_current(projected.settings, ENCODER)


def test_figures_record_what_was_done(projected):
    figures = read_record(projected.folder / "figures.json")

    assert figures["n_patches"] == sum(figures["n_patches_by_brain"].values())
    assert figures["pca_explained_total"] == pytest.approx(1, abs=1e-3)  # 12 features, 50 components asked for
    assert figures["pca_components"] == 12
    assert figures["embedding"]["effective_rank"] > 3
    assert figures["surface"]["brains"] == "B20"


@pytest.mark.parametrize("side", ["L", "R"])
def test_the_surface_map_has_a_value_per_vertex_of_the_white_surface(projected, small_brains, side):
    surface = nibabel.load(small_brains / f"tpl-MNIColin27/tpl-MNIColin27_hemi-{side}_white.surf.gii")
    mapped = nibabel.load(projected.folder / f"{ENCODER}_hemi-{side}_desc-umap1.func.gii")

    assert len(mapped.darrays[0].data) == len(surface.darrays[0].data)
    assert mapped.meta["AnatomicalStructurePrimary"] == {"L": "CortexLeft", "R": "CortexRight"}[side]


def test_no_warning_of_umap_reaches_the_user(projected):
    """UMAP warns about a missing search index and about threads at every fit."""
    assert not [w for w in projected.warned if "knn_search_index" in str(w.message) or "n_jobs" in str(w.message)]


def test_the_same_features_give_the_same_picture(projected):
    scores = np.random.default_rng(0).normal(size=(150, 6)).astype(np.float32)
    first, second = (umap_coordinates(scores, neighbors=10, min_dist=0.1, seed=3) for _ in range(2))

    np.testing.assert_array_equal(first, second)


def test_too_few_patches_are_a_data_fault():
    rows = pd.DataFrame({"patch_id": range(4)})
    with pytest.raises(DataFault, match="4 patches"):
        projection.project(np.zeros((4, 3)), rows, EvaluationBlock())


def test_components_explain_what_a_singular_value_decomposition_says():
    features = np.random.default_rng(0).normal(size=(200, 8)) * np.arange(1, 9)
    singular = np.linalg.svd(features - features.mean(axis=0), compute_uv=False) ** 2

    components = principal_components(features, 3, seed=0)

    np.testing.assert_allclose(components.explained, (singular / singular.sum())[:3], rtol=1e-4)
    assert components.scores.shape == (200, 3)


def test_align_turns_an_axis_that_runs_the_wrong_way():
    guide = np.arange(10.0)

    turned, correlation = align(-guide, guide)

    np.testing.assert_array_equal(turned, guide)
    assert correlation == pytest.approx(1)
    assert align(np.ones(10), guide)[1] == 0


def test_another_version_is_not_current(projected):
    assert projected.folder == projected.store.umap(ENCODER, VERSION)
    inputs = UMAP_PLOTS.inputs(projected.settings, ENCODER)
    assert not UMAP_PLOTS.is_made_from({**inputs, "seed": 1}, projected.settings, ENCODER)


@pytest.mark.parametrize("value", [0.0, 0.37])
def test_features_that_are_all_the_same_are_said_instead_of_shown(projected, value):
    """A collapsed encoder, or the intensity of one uniform scan: UMAP would return NaN, or a picture of rounding."""
    rows = projected.indices["B20"]
    features = np.full((len(rows), 12), value, dtype=np.float32)

    with pytest.raises(DataFault, match="all 800 patches have the same features"):
        projection.project(features, rows, projected.settings.experiments.evaluation)
