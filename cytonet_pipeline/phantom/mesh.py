"""Triangle meshes: the icosphere, normals, and points sampled densely on a surface."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse


def icosphere(subdivisions: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Return the unit sphere from an icosahedron whose triangles are split in four `subdivisions` times.

    Returns
    -------
    vertices : (V, 3) array
    faces : (F, 3) array
        Seen from outside, counter-clockwise.
    parents : list of (M, 2) arrays
        Per subdivision the two vertices between which each new vertex lies; new ones are appended.
    """
    golden = (1 + 5**0.5) / 2
    corners = [(-1, golden, 0), (1, golden, 0), (-1, -golden, 0), (1, -golden, 0)]
    vertices = np.array(corners + [(z, x, y) for x, y, z in corners] + [(y, z, x) for x, y, z in corners], float)
    vertices /= np.linalg.norm(vertices[0])
    around = "0 11 5, 0 5 1, 0 1 7, 0 7 10, 0 10 11, 1 5 9, 5 11 4, 11 10 2, 10 7 6, 7 1 8"
    around += ", 3 9 4, 3 4 2, 3 2 6, 3 6 8, 3 8 9, 4 9 5, 2 4 11, 6 2 10, 8 6 7, 9 8 1"
    faces = np.array([triangle.split() for triangle in around.split(",")], int)
    parents = []
    for _ in range(subdivisions):
        edges, place = np.unique(
            np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0, return_inverse=True
        )
        middle = place.reshape(-1, 3) + len(vertices)
        a, b, c = faces.T
        ab, bc, ca = middle.T
        faces = np.concatenate([np.stack(t, axis=1) for t in ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))])
        added = vertices[edges].sum(axis=1)
        vertices = np.concatenate([vertices, added / np.linalg.norm(added, axis=1, keepdims=True)])
        parents.append(edges)
    return vertices, faces, parents


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return unit normals (V, 3): the mean of the adjoining triangles', weighted by their area, pointing outwards."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    across = np.cross(b - a, c - a)
    if np.einsum("ij,ij->", a, across) < 0:  # six times the enclosed volume
        across = -across
    normals = np.stack([np.bincount(faces.ravel(), np.repeat(across[:, k], 3), len(vertices)) for k in range(3)], 1)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def neighbour_mean(faces: np.ndarray, n_vertices: int) -> sparse.csr_matrix:
    """Return the matrix (V, V) that replaces a vertex's value by the mean of its neighbours'."""
    pairs = faces[:, [0, 1, 1, 2, 2, 0, 1, 0, 2, 1, 0, 2]].reshape(-1, 2)
    adjacency = sparse.csr_matrix((np.ones(len(pairs)), pairs.T), shape=(n_vertices, n_vertices))
    adjacency.data[:] = 1
    return (sparse.diags(1 / np.asarray(adjacency.sum(axis=1)).ravel()) @ adjacency).tocsr()


def cotangent_laplacian(vertices: np.ndarray, faces: np.ndarray) -> sparse.csr_matrix:
    """Return the Laplace-Beltrami operator (V, V) in 1/mm², positive semi-definite: cotangents, barycentric masses."""
    n = len(vertices)
    corners = [vertices[faces[:, k]] for k in range(3)]
    rows, columns, weights = [], [], []
    for k in range(3):
        u, w = corners[(k + 1) % 3] - corners[k], corners[(k + 2) % 3] - corners[k]
        cotangent = np.einsum("ij,ij->i", u, w) / np.linalg.norm(np.cross(u, w), axis=1)
        rows.append(faces[:, (k + 1) % 3])
        columns.append(faces[:, (k + 2) % 3])
        weights.append(cotangent / 2)
    i, j, w = (np.concatenate(part) for part in (rows, columns, weights))
    stiffness = sparse.csr_matrix((np.r_[w, w], (np.r_[i, j], np.r_[j, i])), shape=(n, n))
    stiffness = sparse.diags(np.asarray(stiffness.sum(axis=1)).ravel()) - stiffness
    area = np.linalg.norm(np.cross(corners[1] - corners[0], corners[2] - corners[0]), axis=1) / 2
    mass = np.bincount(faces.ravel(), np.repeat(area / 3, 3), n)
    return (sparse.diags(1 / mass) @ stiffness).tocsr()


@dataclass(frozen=True)
class SurfaceSamples:
    """Points spread over a surface, with outward normals and the vertex that each belongs to."""

    points_mm: np.ndarray
    normals: np.ndarray
    vertex: np.ndarray


def sample_surface(
    vertices: np.ndarray, faces: np.ndarray, spacing_mm: float, *, carried: np.ndarray | None = None
) -> SurfaceSamples:
    """Cover a surface with points at most about `spacing_mm` apart: large triangles get more of them.

    With `carried` (V, 3), another surface with the same vertices, the same places of that one are given.
    """
    longest = np.max(
        [np.linalg.norm(vertices[faces[:, k]] - vertices[faces[:, k - 1]], axis=1) for k in range(3)], axis=0
    )
    divisions = np.clip(np.ceil(longest / spacing_mm), 1, 16).astype(int)
    vertices = vertices if carried is None else carried
    normals = vertex_normals(vertices, faces)
    points, outwards, owners = [vertices], [normals], [np.arange(len(vertices))]
    for n in range(2, divisions.max() + 1):
        chosen = faces[divisions == n]
        for weights in _barycentric(n):
            points.append(np.einsum("k,fkd->fd", weights, vertices[chosen]))
            outwards.append(np.einsum("k,fkd->fd", weights, normals[chosen]))
            owners.append(chosen[:, int(np.argmax(weights))])
    out = np.concatenate(outwards)
    return SurfaceSamples(
        np.concatenate(points), out / np.linalg.norm(out, axis=1, keepdims=True), np.concatenate(owners)
    )


def _barycentric(n: int) -> list[np.ndarray]:
    # Points in the middle of sub-triangles: none lies on an edge, where the neighbour would give it once more.
    steps = [(3 * i + 1, 3 * j + 1) for i in range(n) for j in range(n - i)]
    return [np.array([i, j, 3 * n - i - j]) / (3 * n) for i, j in steps]
