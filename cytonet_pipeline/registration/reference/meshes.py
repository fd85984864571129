"""Triangle meshes: normals, distances, samples. There is only geometry here, no anatomy.

Nothing assumes that two surfaces share vertices, or that one is a sphere: pial surfaces of real templates have handles.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

# Two rounds of halving: sample points at most a quarter of an edge from any place of a face.
_SUBDIVISION = 4
_CHUNK_POINTS = 1 << 16
_CELL_MM = 4.0


@dataclass(frozen=True)
class Nearest:
    """The nearest places on a mesh to N points."""

    face: np.ndarray  # (N,) index of the face
    weights: np.ndarray  # (N, 3) barycentric weights of its corners
    point_mm: np.ndarray  # (N, 3) the place
    distance_mm: np.ndarray  # (N,) never negative


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh.

    Parameters
    ----------
    vertices_mm : (V, 3) float64 array
    faces : (F, 3) int array
        Corners of each triangle, counter-clockwise seen from outside.
    """

    vertices_mm: np.ndarray
    faces: np.ndarray

    @cached_property
    def corners_mm(self) -> np.ndarray:
        """Corners of each face, (F, 3, 3)."""
        return self.vertices_mm[self.faces]

    @cached_property
    def face_areas_mm2(self) -> np.ndarray:
        """Area of each face, (F,)."""
        return np.linalg.norm(_cross_of_edges(self.corners_mm), axis=1) / 2

    @cached_property
    def vertex_normals(self) -> np.ndarray:
        """Outward unit normal at each vertex, (V, 3): the normals of its faces, weighted by their angles at the vertex.

        With angle weights the sign of (point − nearest vertex) · normal distinguishes inside from outside on any
        closed mesh (Baerentzen & Aanaes 2005).
        """
        normals = unit(_cross_of_edges(self.corners_mm))
        summed = np.zeros_like(self.vertices_mm)
        for corner in range(3):
            here, following, before = (self.corners_mm[:, (corner + k) % 3] for k in range(3))
            cosine = np.einsum("ij,ij->i", unit(following - here), unit(before - here))
            np.add.at(summed, self.faces[:, corner], normals * np.arccos(np.clip(cosine, -1, 1))[:, None])
        return unit(summed)

    def oriented_outward(self) -> "Mesh":
        """Return the same mesh with normals that point out of the volume it encloses."""
        volume = np.einsum("ij,ij->i", self.corners_mm[:, 0], np.cross(self.corners_mm[:, 1], self.corners_mm[:, 2]))
        return self if volume.sum() >= 0 else Mesh(self.vertices_mm, self.faces[:, ::-1])

    @cached_property
    def _tree(self) -> tuple[cKDTree, np.ndarray]:
        steps = [(a, b) for a in range(_SUBDIVISION) for b in range(_SUBDIVISION - a)]
        centres = [np.array([a + 1 / 3, b + 1 / 3]) / _SUBDIVISION for a, b in steps]
        weights = np.array([[1 - a - b, a, b] for a, b in centres])
        samples = np.einsum("kc,fcd->fkd", weights, self.corners_mm).reshape(-1, 3)
        faces = np.repeat(np.arange(len(self.faces)), len(weights))
        return cKDTree(samples, balanced_tree=False, compact_nodes=False), faces

    def nearest(self, points_mm: np.ndarray) -> Nearest:
        """Find the nearest place on the mesh to each point.

        The face is that of the nearest of ten sample points per face; the place on it is exact. With edges of 1.5 mm
        the distance is too long by less than 0.1 mm at worst, by microns on average (measured in the tests).

        Parameters
        ----------
        points_mm : (N, 3) array
            Points without NaN.
        """
        tree, face_of_sample = self._tree
        face = np.empty(len(points_mm), dtype=np.int64)
        weights = np.empty((len(points_mm), 3))
        order = _neighbours_together(points_mm)
        for start in range(0, len(points_mm), _CHUNK_POINTS):
            chunk = order[start : start + _CHUNK_POINTS]
            _, sample = tree.query(points_mm[chunk])
            face[chunk] = face_of_sample[sample]
            weights[chunk] = _closest_weights(points_mm[chunk], self.corners_mm[face[chunk]])
        place = np.einsum("nc,ncd->nd", weights, self.corners_mm[face])
        return Nearest(face, weights, place, np.linalg.norm(points_mm - place, axis=1))

    def normals_at(self, nearest: Nearest) -> np.ndarray:
        """Return outward unit normals at places on the mesh, interpolated between vertices, (N, 3)."""
        return unit(np.einsum("nc,ncd->nd", nearest.weights, self.vertex_normals[self.faces[nearest.face]]))

    def is_outside(self, points_mm: np.ndarray, nearest: Nearest) -> np.ndarray:
        """Tell which points lie on the outer side of the nearest place, (N,) bool."""
        return np.einsum("ij,ij->i", points_mm - nearest.point_mm, self.normals_at(nearest)) > 0

    def sample(self, count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw random places with uniform density per mm²: faces (count,) and barycentric weights (count, 3)."""
        cumulative = np.cumsum(self.face_areas_mm2)
        draw = random.random((count, 3))
        face = np.searchsorted(cumulative, draw[:, 0] * cumulative[-1], side="right").clip(max=len(self.faces) - 1)
        # The square root spreads points evenly over a triangle (Turk 1990).
        root = np.sqrt(draw[:, 1])
        weights = np.column_stack([1 - root, root * (1 - draw[:, 2]), root * draw[:, 2]])
        return face, weights


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors to length one along the last axis; zero vectors stay zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def _neighbours_together(points: np.ndarray) -> np.ndarray:
    """Return an order in which points of the same cell of space follow one another.

    The tree's nodes then stay in the cache: less than half the time for random points on a real surface.
    """
    return np.lexsort(np.floor(points / _CELL_MM).T)


def _cross_of_edges(corners: np.ndarray) -> np.ndarray:
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def _closest_weights(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Return the barycentric weights of the closest place of a triangle to each point, (N, 3).

    It is the foot of the perpendicular where that falls inside, otherwise the closest place on one of the three edges.
    """
    inside = _foot_weights(points, corners)
    best = inside.copy()
    outside = (inside < 0).any(axis=1)
    if not outside.any():
        return best
    points, corners = points[outside], corners[outside]
    edge_weights = np.zeros((3, len(points), 3))
    distances = np.empty((3, len(points)))
    for edge in range(3):
        start, end = corners[:, edge], corners[:, (edge + 1) % 3]
        along = end - start
        length2 = np.maximum(np.einsum("ij,ij->i", along, along), 1e-30)
        share = np.clip(np.einsum("ij,ij->i", points - start, along) / length2, 0, 1)
        edge_weights[edge, :, edge], edge_weights[edge, :, (edge + 1) % 3] = 1 - share, share
        distances[edge] = np.linalg.norm(points - start - share[:, None] * along, axis=1)
    best[outside] = edge_weights[distances.argmin(axis=0), np.arange(len(points))]
    return best


def _foot_weights(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Return the barycentric weights of the perpendicular's foot in each triangle's plane; −1 if it has no area."""
    u, v, w = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], points - corners[:, 0]
    uu, uv, vv, wu, wv = (np.einsum("ij,ij->i", a, b) for a, b in ((u, u), (u, v), (v, v), (w, u), (w, v)))
    determinant = uu * vv - uv * uv
    regular = determinant > 1e-18
    safe = np.where(regular, determinant, 1.0)
    second, third = (vv * wu - uv * wv) / safe, (uu * wv - uv * wu) / safe
    weights = np.column_stack([1 - second - third, second, third])
    weights[~regular] = -1.0
    return weights
