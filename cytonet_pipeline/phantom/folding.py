"""The folds of a hemisphere: a sphere stretched to the size of a hemisphere, with sulci pressed into it.

Where the sulci run is left to a pattern-forming equation on the surface (Swift and Hohenberg, Phys. Rev. A 15, 319,
1977): gyri and sulci of one width that meander and branch. The few sulci that all brains have are held in place. Every
point of the folded surface lies on the line from a point of the hull towards the core, so that the surface cannot cut
itself. Coordinates: right hemisphere, mm, x lateral, y anterior, z superior, before it is put beside the left one.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.interpolate import PchipInterpolator
from scipy.sparse import linalg
from scipy.spatial import cKDTree

from cytonet_pipeline.phantom.mesh import cotangent_laplacian, icosphere

HALF_AXES_MM = np.array([33.0, 84.0, 60.0])
_CORE = np.array([0.15, 0.60, 0.45])  # the core towards which sulci are pressed, as a share of the half axes
FOLD_WAVELENGTH_MM = 23.0
SULCUS_DEPTH_MM = 13.0
SYLVIAN_DEPTH_MM = 21.0
# Half a gyrus, from the middle of its crown (0) to the fundus beside it (1): depth as a share of the sulcus's.
_CROSS_SECTION = np.array(
    [(0, 0), (0.2, 0.02), (0.38, 0.08), (0.52, 0.20), (0.62, 0.42), (0.72, 0.72), (0.83, 0.93), (1, 1)]
)

# Sulci as lines over the sphere: lateral, anterior, superior.
CENTRAL_SULCUS = np.array([(-0.40, -0.26, 0.88), (0.25, -0.18, 0.95), (0.62, -0.02, 0.78), (0.97, 0.22, 0.08)])
SYLVIAN_FISSURE = np.array([(0.75, 0.58, -0.32), (0.97, 0.10, -0.20), (0.95, -0.30, 0.02), (0.85, -0.45, 0.22)])
CALCARINE_SULCUS = np.array([(-0.75, -0.60, 0.05), (-0.25, -0.97, 0.00)])
# Where the two hemispheres are joined: no cortex there.
JUNCTION = np.array([-1.0, 0.05, -0.05])
_JUNCTION_RADIUS = 0.42


@dataclass(frozen=True)
class Folded:
    """A right hemisphere without thickness.

    Attributes
    ----------
    sphere : (V, 3) array
        Unit vectors, by which areas are placed.
    hull_mm, folded_mm : (V, 3) arrays
        The surface without and with its sulci.
    faces : (F, 3) array
    junction : (V,) array
        0 in the cortex to 1 where the hemispheres are joined.
    """

    sphere: np.ndarray
    hull_mm: np.ndarray
    folded_mm: np.ndarray
    faces: np.ndarray
    junction: np.ndarray


def fold_hemisphere(rng: np.random.Generator, subdivisions: int = 6) -> Folded:
    """Fold one hemisphere; `subdivisions` 6 gives 41 thousand vertices, about 1.5 mm apart."""
    coarse = min(subdivisions, 5)
    sphere, faces, _ = icosphere(coarse)
    pattern = _fold_pattern(rng, sphere, faces)
    fine, fine_faces, parents = icosphere(subdivisions)
    for edges in parents[coarse:]:
        pattern = np.r_[pattern, pattern[edges].mean(axis=1)]
    hull = _between(fine, np.ones(len(fine)))
    junction = _smoothstep((_JUNCTION_RADIUS - np.linalg.norm((fine - JUNCTION) * (0.5, 1, 1), axis=1)) / 0.12)
    inwards = np.linalg.norm(hull - _between(fine, np.zeros(len(fine))), axis=1)
    depth = _sulcal_depth(hull, pattern) * (1 - junction)
    folded = _between(fine, 1 - depth / inwards)
    folded[:, 0] -= 3.4 * junction  # the joined part reaches over the midline gap
    return Folded(fine, hull, folded, fine_faces, junction)


def distance_along(line: np.ndarray, points_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance of hull points from a line over the sphere (mm, positive in front); place along it."""
    steps = np.linspace(0, 1, 400)
    corners = np.linspace(0, 1, len(line))
    dense = np.stack([np.interp(steps, corners, line[:, k]) for k in range(3)], axis=1)
    dense /= np.linalg.norm(dense, axis=1, keepdims=True)
    on_hull = _between(dense, np.ones(len(dense)))
    distance, nearest = cKDTree(on_hull).query(points_mm)
    forwards = np.cross(np.gradient(on_hull, axis=0), dense)
    forwards *= np.sign(forwards[:, 1:2].sum())
    side = np.einsum("ij,ij->i", points_mm - on_hull[nearest], forwards[nearest])
    return np.copysign(distance, side), steps[nearest]


def _between(sphere: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return points between core (share 0) and hull (1), mm."""
    x, y, z = (sphere * HALF_AXES_MM * (_CORE + (1 - _CORE) * share[:, None])).T
    # A flat medial wall; a lower temporal lobe between the raised undersides of frontal and occipital lobe.
    x = np.where(x < 0, 32.8 * np.tanh(x / 22.0), x)
    underside = 0.66 + 0.30 * np.exp(-(((y - 8.0) / 46.0) ** 4))
    z = np.where(z < 0, z * underside, z)
    return np.stack([x, y, z], axis=1)


def _fold_pattern(rng: np.random.Generator, sphere: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return a Swift-Hohenberg pattern, about -1 in sulci to 1 on gyri, by semi-implicit steps."""
    hull = _between(sphere, np.ones(len(sphere)))
    laplacian = cotangent_laplacian(hull, faces) * (FOLD_WAVELENGTH_MM / (2 * np.pi)) ** 2
    identity = sparse.identity(len(sphere), format="csr")
    detuned = identity - laplacian
    step, growth, hold = 0.5, 0.7, 2.0
    held, target = _held_sulci(hull)
    linear = detuned @ detuned - growth * identity + hold * sparse.diags(held)
    solve = linalg.splu((identity + step * linear).tocsc()).solve
    pattern = 0.1 * rng.normal(size=len(sphere))
    for _ in range(120):
        pattern = solve(pattern + step * (hold * held * target - pattern**3))
    return pattern / np.percentile(np.abs(pattern), 95)


def _held_sulci(hull: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    held, target = np.zeros(len(hull)), np.zeros(len(hull))
    for line in (CENTRAL_SULCUS, SYLVIAN_FISSURE, CALCARINE_SULCUS):
        distance, _ = distance_along(line, hull)
        weight = np.exp(-((distance / 9.0) ** 2))
        target = np.where(weight > held, -np.cos(2 * np.pi * distance / FOLD_WAVELENGTH_MM), target)
        held = np.maximum(held, weight)
    return held, target


def _sulcal_depth(hull: np.ndarray, pattern: np.ndarray) -> np.ndarray:
    """Return the depth below the hull, mm: round crowns, steep banks, narrow fundi."""
    from_crown = np.arccos(np.clip(pattern, -1, 1)) / np.pi
    profile = PchipInterpolator(*_CROSS_SECTION.T)(from_crown)
    along_fissure, _ = distance_along(SYLVIAN_FISSURE, hull)
    deeper = np.exp(-((along_fissure / 9.0) ** 2))
    return profile * (SULCUS_DEPTH_MM + (SYLVIAN_DEPTH_MM - SULCUS_DEPTH_MM) * deeper)


def _smoothstep(x: np.ndarray) -> np.ndarray:
    clipped = np.clip(x, 0, 1)
    return clipped * clipped * (3 - 2 * clipped)
