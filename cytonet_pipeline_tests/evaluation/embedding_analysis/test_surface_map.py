"""Values of patches on vertices."""

import nibabel
import numpy as np
import pytest

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.evaluation.embedding_analysis.surface_map import onto_surface, reach_mm, read_func, write_func


def test_a_vertex_takes_the_gaussian_mean_of_what_is_in_reach():
    random = np.random.default_rng(0)
    vertices, points, values = random.uniform(0, 20, (50, 3)), random.uniform(0, 20, (80, 3)), random.normal(size=80)

    mapped = onto_surface(vertices, points, values, 6.0)

    distance = np.linalg.norm(vertices[:, None] - points[None], axis=2)
    weight = np.where(distance <= 6, np.exp(-(distance**2) / (2 * 3.0**2)), 0)
    np.testing.assert_allclose(mapped, (weight @ values) / weight.sum(axis=1), rtol=1e-5)


def test_a_vertex_without_a_patch_in_reach_has_no_value():
    mapped = onto_surface(np.array([[0.0, 0, 0], [50, 0, 0]]), np.array([[1.0, 0, 0]]), np.array([7.0]), 5.0)

    assert mapped[0] == 7
    assert np.isnan(mapped[1])


def test_no_patch_at_all_gives_no_value_at_all():
    assert np.isnan(onto_surface(np.zeros((3, 3)), np.empty((0, 3)), np.empty(0), 5.0)).all()


def test_sparse_samples_reach_further_than_dense_ones():
    random = np.random.default_rng(0)
    vertices = random.uniform(0, 60, (500, 3))
    dense, sparse = reach_mm(vertices, random.uniform(0, 60, (20000, 3))), reach_mm(vertices, vertices[:5])

    assert 4 == dense < sparse == 10


def test_what_is_written_is_what_nibabel_reads(tmp_path):
    values = np.array([1.5, np.nan, -2], dtype=np.float32)
    write_func(tmp_path / "x_hemi-L_desc-umap1.func.gii", values, "L", {"Brains": "B20"})

    image = nibabel.load(tmp_path / "x_hemi-L_desc-umap1.func.gii")

    np.testing.assert_array_equal(image.agg_data(), values)
    assert image.meta["Brains"] == "B20"
    np.testing.assert_array_equal(read_func(tmp_path / "x_hemi-L_desc-umap1.func.gii"), values)


def test_a_missing_map_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"gone\.func\.gii"):
        read_func(tmp_path / "gone.func.gii")
