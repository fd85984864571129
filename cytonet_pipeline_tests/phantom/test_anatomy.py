"""The synthetic reference: a folded cortex of realistic size with the areas that the evaluation asks for."""

import nibabel
import numpy as np
import pandas as pd
import pytest

from cytonet_pipeline.phantom import areas, folding
from cytonet_pipeline.phantom.mesh import cotangent_laplacian, icosphere, sample_surface, vertex_normals

pytestmark = pytest.mark.long


def surface(template, side, kind):
    loaded = nibabel.load(template / f"tpl-MNIColin27_hemi-{side}_{kind}.surf.gii")
    return loaded.agg_data("pointset").astype(float), loaded.agg_data("triangle").astype(int)


@pytest.fixture(scope="module")
def atlas(template):
    image = nibabel.load(template / "tpl-MNIColin27_atlas-Phantom_dseg.nii.gz")
    table = pd.read_csv(template / "tpl-MNIColin27_atlas-Phantom_dseg.tsv", sep="\t")
    return np.asarray(image.dataobj), image.affine, table


def test_the_brain_has_a_realistic_size(template):
    both = np.concatenate([surface(template, side, "pial")[0] for side in "LR"])

    assert np.ptp(both, axis=0) == pytest.approx([140, 170, 120], rel=0.06)


@pytest.mark.parametrize("side", ["L", "R"])
def test_surfaces_are_closed_spheres_that_share_their_vertices(template, side):
    faces = [surface(template, side, kind)[1] for kind in ("pial", "white", "inflated")]
    vertices = len(surface(template, side, "white")[0])
    edges = np.sort(faces[1][:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    _, times = np.unique(edges, axis=0, return_counts=True)

    assert (faces[0] == faces[1]).all()
    assert (faces[1] == faces[2]).all()
    assert (times == 2).all()
    assert vertices - len(times) + len(faces[1]) == 2  # Euler


@pytest.mark.parametrize("side", ["L", "R"])
def test_the_cortex_is_folded_and_two_to_four_mm_thick(template, side):
    pial, faces = surface(template, side, "pial")
    white, _ = surface(template, side, "white")
    inflated, _ = surface(template, side, "inflated")

    def area(points):
        a, b, c = (points[faces[:, k]] for k in range(3))
        return np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2

    thickness = np.linalg.norm(pial - white, axis=1)
    assert area(pial) > 1.3 * area(inflated)
    assert np.percentile(thickness[thickness > 1], [10, 50]) == pytest.approx([2.8, 3.1], abs=0.6)


def test_left_and_right_have_the_same_areas(atlas):
    volume, _, table = atlas
    left, right = (table[table["hemisphere"] == side].reset_index() for side in "LR")

    assert list(table.columns) == ["index", "name", "hemisphere", "area", "color", "kind"]
    assert (right["index"] == left["index"] + 1000).all()
    assert (right["name"] == left["name"]).all()
    assert (left["kind"] == "area").sum() >= 20
    assert set(left["kind"]) == {"area", "gap", "subcortical"}
    assert set(np.unique(volume)) == {0, *table["index"]}


def test_left_labels_lie_left(atlas):
    volume, affine, _ = atlas
    x = np.nonzero(volume)[0] + affine[0, 3]
    labels = volume[volume > 0]

    assert (x[labels < 1000] <= 0.5).mean() > 0.999
    assert (x[labels >= 1000] >= -0.5).mean() > 0.999


def test_every_area_is_large_enough_to_be_learnt(atlas):
    volume, _, table = atlas
    cortical = table[table["kind"] != "subcortical"]["index"]

    voxels = np.bincount(volume.ravel(), minlength=2000)[cortical]

    assert voxels.min() > 1500  # mm³: 45 patches a hemisphere at 0.03 a mm³


def test_motor_and_sensory_areas_face_each_other_across_the_central_sulcus():
    """The step across this sulcus is what the evaluation measures: a fundus with 4p before and 3a behind it."""
    folded = folding.fold_hemisphere(np.random.default_rng(0), subdivisions=4)
    distance, along = folding.distance_along(folding.CENTRAL_SULCUS, folded.hull_mm)
    depth = np.linalg.norm(folded.hull_mm - folded.folded_mm, axis=1)
    middle = (along > 0.1) & (along < 0.9)

    assert np.median(depth[middle & (np.abs(distance) < 1.5)]) > 8
    assert np.median(depth[middle & (np.abs(distance - 11) < 1.5)]) < 3
    assert np.median(depth[middle & (np.abs(distance + 11) < 1.5)]) < 3
    (back_4p, front_4p), (back_3a, front_3a) = (
        areas.CENTRAL_STRIPS[name] for name in ("Area 4p (PreCG)", "Area 3a (PostCG)")
    )
    assert back_4p == front_3a == 0
    assert front_4p > 0 > back_3a


def test_volumes_agree_only_through_their_affines(template, atlas):
    """Grids differ on purpose: a reader that goes by index finds areas outside the brain."""
    volume, affine, _ = atlas
    mask = nibabel.load(template / "tpl-MNIColin27_res-01_desc-brain_mask.nii.gz")
    labelled = np.argwhere(volume > 0)[::97]
    inside = np.asarray(mask.dataobj)

    in_mask = nibabel.affines.apply_affine(np.linalg.inv(mask.affine) @ affine, labelled).round().astype(int)

    assert mask.shape != volume.shape
    assert inside[tuple(in_mask.T)].mean() > 0.99


def test_a_sphere_has_the_laplacian_of_a_sphere():
    """x is an eigenfunction of the unit sphere's Laplace-Beltrami operator with eigenvalue 2."""
    vertices, faces, _ = icosphere(4)

    found = cotangent_laplacian(vertices, faces) @ vertices

    # At the twelve corners of the icosahedron five triangles meet instead of six: barycentric masses err there.
    np.testing.assert_allclose(found[12:], 2 * vertices[12:], atol=0.02)


def test_normals_of_a_sphere_point_outwards_whatever_the_order_of_corners():
    vertices, faces, _ = icosphere(4)

    for ordered in (faces, faces[:, ::-1]):
        np.testing.assert_allclose(vertex_normals(vertices, ordered), vertices, atol=0.02)


def test_samples_cover_a_surface_without_holes():
    vertices, faces, _ = icosphere(1)
    samples = sample_surface(50 * vertices, faces, 5.0)
    everywhere, _, _ = icosphere(5)

    apart = np.linalg.norm(samples.points_mm[:, None] - 50 * everywhere[None, ::37], axis=2).min(axis=0)

    assert apart.max() < 8.5  # 5 mm along the surface, and up to 7 mm between a flat triangle and the sphere
    assert len(samples.points_mm) == len(samples.normals) == len(samples.vertex)
