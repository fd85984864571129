"""Geometry of meshes against brute force and against spheres, whose answers are known."""

import numpy as np
import pytest

from cytonet_pipeline.registration.reference.geodesics import geodesic_distances, medoid, surface_graph
from cytonet_pipeline.registration.reference.meshes import Mesh, _closest_weights
from cytonet_pipeline_tests.registration.conftest import bumpy, sphere


@pytest.fixture(scope="module")
def bumps() -> Mesh:
    return bumpy(sphere(4), 25.0, (3.0, 2.0, 1.0))


def brute_force_mm(mesh: Mesh, points: np.ndarray) -> np.ndarray:
    """Return the smallest distance to any face, computed for every single one."""
    least = np.full(len(points), np.inf)
    for corners in mesh.corners_mm:
        repeated = np.broadcast_to(corners, (len(points), 3, 3))
        place = np.einsum("nc,ncd->nd", _closest_weights(points, repeated), repeated)
        least = np.minimum(least, np.linalg.norm(points - place, axis=1))
    return least


def test_the_closest_place_of_a_triangle_agrees_with_a_fine_sampling_of_it():
    random = np.random.default_rng(0)
    corners, points = random.normal(0, 2, (40, 3, 3)), random.normal(0, 3, (40, 3))
    a, b = np.meshgrid(np.linspace(0, 1, 201), np.linspace(0, 1, 201))
    a, b = a[a + b <= 1], b[a + b <= 1]
    samples = np.einsum("kc,ncd->nkd", np.column_stack([1 - a - b, a, b]), corners)
    expected = np.linalg.norm(samples - points[:, None], axis=2).min(axis=1)

    place = np.einsum("nc,ncd->nd", _closest_weights(points, corners), corners)

    distance = np.linalg.norm(points - place, axis=1)
    assert (distance <= expected + 1e-12).all()
    assert np.abs(distance - expected).max() < 0.01


def test_distances_agree_with_brute_force(bumps):
    points = np.random.default_rng(0).normal(0, 18, (400, 3))

    excess = bumps.nearest(points).distance_mm - brute_force_mm(bumps, points)

    assert excess.min() > -1e-9
    assert excess.max() < 0.15
    assert excess.mean() < 0.005


def test_distances_to_the_real_pial_surface_agree_with_brute_force(colin27):
    vertices, faces = colin27.surface("L", "pial")
    pial = Mesh(vertices, faces)
    near = np.linalg.norm(pial.corners_mm.mean(axis=1) - [-40, -20, 55], axis=1) < 25
    patch = Mesh(vertices, faces[near])
    centre = np.random.default_rng(0).normal([-40, -20, 55], 4, (200, 3))

    excess = patch.nearest(centre).distance_mm - brute_force_mm(patch, centre)

    assert excess.max() < 0.2
    assert excess.mean() < 0.002


def test_inside_and_outside_of_a_bumpy_sphere(bumps):
    directions = np.random.default_rng(1).normal(size=(3_000, 3))
    nearest = bumps.nearest(25 * directions / np.linalg.norm(directions, axis=1, keepdims=True))
    normals = bumps.normals_at(nearest)

    outer, inner = nearest.point_mm + 0.4 * normals, nearest.point_mm - 0.4 * normals

    assert bumps.is_outside(outer, bumps.nearest(outer)).all()
    assert not bumps.is_outside(inner, bumps.nearest(inner)).any()


def test_a_mesh_wound_inwards_is_turned():
    ball = sphere(2)
    inwards = Mesh(ball.vertices_mm, ball.faces[:, ::-1])

    normals = inwards.oriented_outward().vertex_normals

    assert np.einsum("ij,ij->i", normals, ball.vertices_mm).min() > 0.99


def test_samples_are_uniform_by_area():
    """A mesh with large and small triangles: the halves of a sphere get shares by area, whatever their triangles."""
    ball = sphere(4)
    coarse = sphere(1)
    mesh = Mesh(
        np.concatenate([ball.vertices_mm, coarse.vertices_mm]),
        np.concatenate(
            [
                ball.faces[(ball.corners_mm[..., 2] >= -1e-9).all(axis=1)],
                coarse.faces[(coarse.corners_mm[..., 2] <= 1e-9).all(axis=1)] + len(ball.vertices_mm),
            ]
        ),
    )
    face, _ = mesh.sample(40_000, np.random.default_rng(0))

    lower = mesh.corners_mm[:, :, 2].max(axis=1) <= 1e-9
    expected = mesh.face_areas_mm2[lower].sum() / mesh.face_areas_mm2.sum()
    assert np.mean(lower[face]) == pytest.approx(expected, abs=0.01)


def test_geodesics_on_a_sphere_are_arcs():
    """Mesh edges alone overestimate by up to 15 %; with edges across triangle pairs it stays near 5 %."""
    ball = sphere(5)

    paths = geodesic_distances(surface_graph(ball), np.array([0, 100]))

    arcs = np.arccos(np.clip(ball.vertices_mm[[0, 100]] @ ball.vertices_mm.T, -1, 1))
    far = arcs > 0.3
    ratio = paths[far] / arcs[far]
    assert ratio.min() > 0.99
    assert ratio.max() < 1.08
    assert ratio.mean() < 1.04


def test_components_without_a_path_are_infinitely_far():
    ball = sphere(1)
    two = Mesh(
        np.concatenate([ball.vertices_mm, ball.vertices_mm + 10]),
        np.concatenate([ball.faces, ball.faces + len(ball.vertices_mm)]),
    )

    distances = geodesic_distances(surface_graph(two), np.array([0]))[0]

    assert np.isfinite(distances[: len(ball.vertices_mm)]).all()
    assert np.isinf(distances[len(ball.vertices_mm) :]).all()


def test_the_medoid_of_a_cap_is_its_pole_whatever_strays_there_are():
    ball = sphere(4)
    pole = int(ball.vertices_mm[:, 2].argmax())
    cap = np.flatnonzero(ball.vertices_mm[:, 2] > 0.8)
    strays = np.flatnonzero(ball.vertices_mm[:, 2] < -0.98)

    assert (
        np.linalg.norm(ball.vertices_mm[medoid(surface_graph(ball), np.union1d(cap, strays))] - ball.vertices_mm[pole])
        < 0.1
    )
