"""The synthetic reference space: two folded hemispheres with areas, as surfaces and volumes.

Made once per data set, in the place of Colin-27. Nothing here knows of brains or sections.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from cytonet_pipeline.phantom import areas
from cytonet_pipeline.phantom.draws import SmoothField, stream
from cytonet_pipeline.phantom.folding import CENTRAL_SULCUS, Folded, distance_along, fold_hemisphere
from cytonet_pipeline.phantom.mesh import neighbour_mean, sample_surface, vertex_normals

CENTRE_MM = np.array([33.6, -20.0, 14.0])  # of the right hemisphere; the left one is its mirror image, bent
THICKNESS_MM = (2.5, 3.5)
_PUTAMEN = (np.array([26.0, 2.0, 4.0]), np.array([6.0, 16.0, 9.0]))  # centre and half axes, mm

# T1w grid (shape, first voxel) and another one for the atlas: volumes meet through their affines, never by index.
T1W_GRID = ((181, 217, 181), np.array([-90.0, -126.0, -72.0]))
ATLAS_GRID = ((168, 196, 150), np.array([-84.0, -118.0, -62.0]))
_GREY = {"background": 8, "fluid": 28, "cortex": 118, "white": 182, "putamen": 135}


@dataclass(frozen=True)
class Hemisphere:
    """Surfaces of one hemisphere, vertex by vertex; `label` is the atlas index, 0 where no cortex is."""

    pial_mm: np.ndarray
    white_mm: np.ndarray
    inflated_mm: np.ndarray
    faces: np.ndarray
    label: np.ndarray


@dataclass(frozen=True)
class Anatomy:
    """Both hemispheres, and the volumes that follow from them."""

    left: Hemisphere
    right: Hemisphere
    seed: int

    @cached_property
    def ribbons(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Per hemisphere: points that cover the pial surface, the same points on the white one, and their labels."""
        return [_ribbon(half) for half in (self.left, self.right)]

    def volumes(self, grid: tuple[tuple[int, int, int], np.ndarray]) -> "Volumes":
        """Return tissue and labels on a grid of 1 mm."""
        return Volumes.fill(self, grid)


def build_anatomy(seed: int, *, subdivisions: int = 6) -> Anatomy:
    """Fold the hemispheres and lay the areas on them."""
    folded = fold_hemisphere(stream(seed, "folds"), subdivisions)
    label = _area_labels(folded, stream(seed, "areas"))
    return Anatomy(_hemisphere(folded, label, "L", seed), _hemisphere(folded, label, "R", seed), seed)


def _area_labels(folded: Folded, rng: np.random.Generator) -> np.ndarray:
    """Return each vertex's index in the left atlas: strips along the central sulcus, warped Voronoi cells elsewhere."""
    warp = SmoothField.draw(rng, rms=3.0, wavelength_mm=(15, 40), components=3)
    wavy = folded.hull_mm + warp(folded.hull_mm)
    seeds = np.array([*areas.SEEDS.values(), areas.GAP_SEED])
    seeds /= np.linalg.norm(seeds, axis=1, keepdims=True)
    seed_places = folded.hull_mm[cKDTree(folded.sphere).query(seeds)[1]]
    numbers = np.array([areas.AREAS.index(name) + 1 for name in areas.SEEDS] + [areas.GAP_INDEX])
    label = numbers[cKDTree(seed_places).query(wavy)[1]]
    distance, along = distance_along(CENTRAL_SULCUS, folded.hull_mm + 0.25 * warp(folded.hull_mm))
    beside = (along > 0) & (along < 1)
    for name, (back, front) in areas.CENTRAL_STRIPS.items():
        label[beside & (distance >= back) & (distance < front)] = areas.AREAS.index(name) + 1
    label[folded.junction > 0.3] = 0
    return label


def _hemisphere(folded: Folded, label: np.ndarray, side: str, seed: int) -> Hemisphere:
    smooth = neighbour_mean(folded.faces, len(folded.sphere))
    pial = smooth @ folded.folded_mm
    thickness = np.clip(
        3.0 + SmoothField.draw(stream(seed, "thickness"), rms=0.25, wavelength_mm=(20, 60))(pial), *THICKNESS_MM
    )
    white = _sunk(pial, folded.faces, thickness * (1 - folded.junction[:, None]))
    inflated = folded.hull_mm * 0.97
    mirror = np.array([1.0 if side == "R" else -1.0, 1.0, 1.0])
    swirl = SmoothField.draw(stream(seed, "swirl", side), rms=2.2, wavelength_mm=(38, 80), components=3)

    def placed(points: np.ndarray) -> np.ndarray:
        # The midline stays where it is: the hemispheres must not run into each other.
        beside = points * mirror + CENTRE_MM * mirror
        return beside + swirl(beside) * np.clip(np.abs(beside[:, :1]) / 12.0, 0, 1) * (0.4, 1, 1)

    faces = folded.faces if side == "R" else folded.faces[:, ::-1]
    numbers = np.where(label > 0, label + (areas.RIGHT_OFFSET if side == "R" else 0), 0)
    return Hemisphere(placed(pial), placed(white), placed(inflated), np.ascontiguousarray(faces), numbers)


def _sunk(surface_mm: np.ndarray, faces: np.ndarray, by_mm: np.ndarray, steps: int = 8) -> np.ndarray:
    """Move a surface inwards in small steps, smoothing the way: one long step would fold it over in narrow gyri."""
    smooth = neighbour_mean(faces, len(surface_mm))
    outwards = vertex_normals(smooth @ surface_mm, faces)
    for _ in range(steps):
        normals = vertex_normals(smooth @ surface_mm, faces)
        surface_mm = surface_mm - by_mm / steps * normals
        surface_mm = 0.6 * surface_mm + 0.4 * (smooth @ surface_mm)
    for _ in range(20):
        # At the sharpest crests it has folded over all the same: flatten it there, the cortex gets thicker.
        turned = np.einsum("ij,ij->i", vertex_normals(surface_mm, faces), outwards) < 0.4
        share = np.clip(3 * (smooth @ (smooth @ turned.astype(float))), 0, 1)[:, None]
        surface_mm = surface_mm + share * (smooth @ surface_mm - surface_mm)
    return surface_mm


def _ribbon(half: Hemisphere) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pial = sample_surface(half.pial_mm, half.faces, 1.1)
    white = sample_surface(half.pial_mm, half.faces, 1.1, carried=half.white_mm)
    return pial.points_mm.astype(np.float32), white.points_mm.astype(np.float32), half.label[pial.vertex]


@dataclass(frozen=True)
class Volumes:
    """What a voxel is: `label` the atlas index, `ribbon` cortex, `brain` everything inside the pial surfaces."""

    label: np.ndarray
    ribbon: np.ndarray
    brain: np.ndarray
    affine: np.ndarray
    seed: int

    @classmethod
    def fill(cls, anatomy: Anatomy, grid: tuple[tuple[int, int, int], np.ndarray]) -> "Volumes":
        """Scatter points between white and pial surface into voxels, then fill what they enclose."""
        shape, first_mm = grid
        label = np.zeros(shape, np.int16)
        ribbon = np.zeros(shape, bool)
        for pial, white, numbers in anatomy.ribbons:
            for share in np.linspace(0.02, 0.98, 6, dtype=np.float32):
                at = np.rint(pial + (white - pial) * share - first_mm.astype(np.float32)).astype(np.int32)
                voxel = np.ravel_multi_index(tuple(at.T), shape)
                ribbon.ravel()[voxel] = True
                label.ravel()[voxel] = numbers
        brain = ndimage.binary_fill_holes(ribbon)
        centre, half_axes = _PUTAMEN
        for side, offset in ((-1, 0), (1, areas.RIGHT_OFFSET)):
            axes = np.ix_(*(np.arange(n) + low for n, low in zip(shape, first_mm, strict=True)))
            away = sum(((x - c) / h) ** 2 for x, c, h in zip(axes, centre * (side, 1, 1), half_axes, strict=True))
            label[(away < 1) & ~ribbon] = areas.SUBCORTICAL_INDEX + offset
        affine = np.eye(4)
        affine[:3, 3] = first_mm
        return cls(label, ribbon & (label > 0), brain, affine, anatomy.seed)

    @cached_property
    def t1w(self) -> np.ndarray:
        """A T1-weighted picture, uint8: white matter bright, cortex grey, fluid dark, a little noise."""
        around = ndimage.binary_dilation(self.brain, iterations=4)
        grey = np.where(around, _GREY["fluid"], _GREY["background"]).astype(np.float32)
        grey[self.brain] = _GREY["white"]
        grey[self.ribbon] = _GREY["cortex"]
        grey[np.isin(self.label % areas.RIGHT_OFFSET, areas.SUBCORTICAL_INDEX)] = _GREY["putamen"]
        grey = ndimage.gaussian_filter(grey, 0.6) + stream(self.seed, "t1w").normal(0, 3, grey.shape)
        return np.clip(grey, 0, 255).astype(np.uint8)

    @cached_property
    def brain_mask(self) -> np.ndarray:
        """The brain without its sulci and the gap between the hemispheres, uint8."""
        return ndimage.binary_fill_holes(ndimage.binary_closing(self.brain, iterations=4)).astype(np.uint8)
