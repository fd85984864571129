"""The cortical ribbon between pial and white surface: depth, normals, and samples of its middle.

Pial and white surface need not share vertices or topology: they are related by nearest places only.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cytonet_pipeline.registration.reference.meshes import Mesh, Nearest, unit

HEMISPHERES = ("L", "R")
# Where white and pial nearly touch there is no cortex: the medial wall, the cut through the brain stem.
_THINNEST_MM = 0.5
_THICKEST_MM = 8.0


@dataclass(frozen=True)
class CortexPlace:
    """The positions of N points with respect to the cortical ribbon; NaN for points that are NaN."""

    depth: np.ndarray  # (N,) float32, 0 at the pial, 1 at the white surface
    normal: np.ndarray  # (N, 3) unit vector from white to pial
    ribbon_distance_mm: np.ndarray  # (N,) 0 within the ribbon, else to the nearer of the two surfaces
    is_left: np.ndarray  # (N,) the nearer pial surface is the left one


class Cortex:
    """The pial and white surfaces of both hemispheres.

    Parameters
    ----------
    pial, white : dict of Mesh
        By hemisphere, "L" and "R".
    """

    def __init__(self, pial: dict[str, Mesh], white: dict[str, Mesh]) -> None:
        self.pial = {hemi: pial[hemi].oriented_outward() for hemi in HEMISPHERES}
        self.white = {hemi: white[hemi].oriented_outward() for hemi in HEMISPHERES}

    def locate(self, points_mm: np.ndarray) -> CortexPlace:
        """Compute depth, normal and distance of points (N, 3).

        Depth is d_pial / (d_pial + d_white) by straight distances: beyond the pial it is 0, inside the white 1. The two
        nearest places need not lie on one column: on Colin-27, along the straight lines from white vertices to the
        nearest pial place, it differs from the share of the line by 0.01 in the median, 0.1 at the 95th percentile
        and up to 0.5 in the tightest folds. It is not an equivolumetric depth.
        """
        known = np.isfinite(points_mm).all(axis=1)
        place = CortexPlace(
            np.full(len(points_mm), np.nan, dtype=np.float32),
            np.full((len(points_mm), 3), np.nan),
            np.full(len(points_mm), np.nan),
            np.zeros(len(points_mm), dtype=bool),
        )
        if known.any():
            self._locate(points_mm[known], known, place)
        return place

    def _locate(self, points: np.ndarray, rows: np.ndarray, place: CortexPlace) -> None:
        pial_mesh, white_mesh = self._both
        pial, white = pial_mesh.nearest(points), white_mesh.nearest(points)
        beyond_pial, outside_white = pial_mesh.is_outside(points, pial), white_mesh.is_outside(points, white)
        depth = _ratio(pial, white)
        # Where the surfaces cross, a point can be beyond both; the nearer one then decides, as in the ratio.
        depth[beyond_pial & outside_white] = 0.0
        depth[~beyond_pial & ~outside_white] = 1.0
        place.depth[rows] = depth
        place.normal[rows] = _blend(pial_mesh.normals_at(pial), white_mesh.normals_at(white), depth)
        within = ~beyond_pial & outside_white
        place.ribbon_distance_mm[rows] = np.where(within, 0.0, np.minimum(pial.distance_mm, white.distance_mm))
        place.is_left[rows] = pial.face < len(self.pial["L"].faces)

    @cached_property
    def _both(self) -> tuple[Mesh, Mesh]:
        """Pial and white surface of both hemispheres as one mesh each, left first: one search instead of two."""
        return _join(self.pial["L"], self.pial["R"]), _join(self.white["L"], self.white["R"])

    @cached_property
    def middle(self) -> dict[str, tuple[Mesh, np.ndarray]]:
        """By hemisphere the mid-cortical surface, with the white surface's faces, and the thickness of the cortex.

        Its vertices correspond to those of the white surface and lie half-way to the nearest pial place. Thickness is
        (V,) in mm.
        """
        middles = {}
        for hemi in HEMISPHERES:
            white = self.white[hemi]
            nearest = self.pial[hemi].nearest(white.vertices_mm)
            middles[hemi] = (Mesh((white.vertices_mm + nearest.point_mm) / 2, white.faces), nearest.distance_mm)
        return middles

    def sample_middle(self, count: int, seed: int) -> np.ndarray:
        """Sample points on the mid-cortical surface with uniform density per mm², (count, 3)."""
        meshes = []
        for hemi in HEMISPHERES:
            mesh, thickness = self.middle[hemi]
            is_cortex = ((thickness > _THINNEST_MM) & (thickness < _THICKEST_MM))[mesh.faces].all(axis=1)
            meshes.append(Mesh(mesh.vertices_mm, mesh.faces[is_cortex]))
        both = _join(*meshes)
        face, weights = both.sample(count, np.random.Generator(np.random.Philox(seed)))
        return np.einsum("nc,ncd->nd", weights, both.corners_mm[face])


def _ratio(pial: Nearest, white: Nearest) -> np.ndarray:
    total = pial.distance_mm + white.distance_mm
    return np.divide(pial.distance_mm, total, out=np.full_like(total, 0.5), where=total > 0)


def _blend(pial: np.ndarray, white: np.ndarray, depth: np.ndarray) -> np.ndarray:
    blended = unit((1 - depth)[:, None] * pial + depth[:, None] * white)
    # Opposite normals cancel; the pial one is as good as any.
    return np.where((blended == 0).all(axis=1)[:, None], pial, blended)


def _join(left: Mesh, right: Mesh) -> Mesh:
    vertices = np.concatenate([left.vertices_mm, right.vertices_mm])
    return Mesh(vertices, np.concatenate([left.faces, right.faces + len(left.vertices_mm)]))
