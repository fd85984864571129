"""Painting the sections of a brain: where the plane cuts the reference, which cells lie there, how the scan looks."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from cytonet_pipeline.phantom.cells import SUBCORTICAL, WHITE_MATTER, Cells, draw_cells, profile_of, throw_cells
from cytonet_pipeline.phantom.deform import Bend, shifted_labels
from cytonet_pipeline.phantom.draws import SmoothField, stream
from cytonet_pipeline.phantom.reference import Reference

SECTION_MM = 0.02
COARSE_UM = 512.0  # grid on which distances to the surfaces are taken; between its points linear
LABEL_UM = 256.0  # pixels of masks and annotations
_FIELD_STEP_MM = 16.384  # fields of view are multiples of this: whole tiles of 256 px at 64 µm
_STRIP = 128
_ALL = slice(None)
_GLASS_NOISE = 0.3  # noise beside the tissue, as a share of that in it: keeps the files small


@dataclass(frozen=True)
class Stain:
    """How a brain's scans look: the same cells, other grey values.

    Attributes
    ----------
    background, tissue, cell : float
        Grey values (0 to 255) of glass, of tissue between cells and of a cell body.
    gamma : float
        Exponent of the staining curve, from darkness to grey value.
    blur_um, noise : float
        Sigma of the optics (µm) and of the noise (grey values).
    uneven : float
        Standard deviation of the uneven illumination and staining, as a share.
    """

    background: float
    tissue: float
    cell: float
    gamma: float
    blur_um: float
    noise: float
    uneven: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Stain":
        """Draw a brain's stain."""
        background = rng.uniform(222, 250)
        tissue = background - rng.uniform(18, 55)
        return cls(
            background=background,
            tissue=tissue,
            cell=tissue - rng.uniform(70, 135),
            gamma=float(2 ** rng.uniform(-0.7, 0.7)),
            blur_um=rng.uniform(20, 60),
            noise=rng.uniform(1.5, 4.0),
            uneven=rng.uniform(0.015, 0.04),
        )


@dataclass(frozen=True)
class SectionPlan:
    """One section: its name and the matrix (3, 4) from scan mm to brain mm."""

    sample: str
    matrix: np.ndarray
    annotated: bool


@dataclass(frozen=True)
class Painted:
    """What is written for a section: the scan, and mask and annotation at their lower resolution."""

    scan: np.ndarray
    mask: np.ndarray
    annotation: np.ndarray


def scan_matrix(
    extent_mm: tuple[np.ndarray, np.ndarray],
    field_mm: np.ndarray,
    y: float,
    turn: float,
    shift_mm: np.ndarray,
    shrinkage: float,
    tilt: np.ndarray,
) -> np.ndarray:
    """Return the matrix (3, 4) from scan mm to brain mm of a coronal section.

    Parameters
    ----------
    extent_mm : lowest and highest corner of the brain
    field_mm : (2,) array
        Height and width of the scan.
    y : float
        Where the section lies (brain mm).
    turn, tilt : float and (2,) array
        How it is turned on the glass, and how the series is tilted (radians).
    shift_mm : (2,) array
        From the middle of the brain, along x and z.
    shrinkage : float
        Brain mm per scan mm.
    """
    # Scan x runs to the brain's right and y downwards.
    right = np.array([np.cos(turn), np.tan(tilt[0]), np.sin(turn)]) * shrinkage
    down = np.array([np.sin(turn), np.tan(tilt[1]), -np.cos(turn)]) * shrinkage
    low, high = extent_mm
    centre = np.array([(low[0] + high[0]) / 2 + shift_mm[0], y, (low[2] + high[2]) / 2 + shift_mm[1]])
    half = np.asarray(field_mm) / 2
    corner = centre - right * half[1] - down * half[0]
    return np.stack([right, down, np.cross(right, down) / shrinkage**2, corner], axis=1)


class Painter:
    """Paints all sections of one brain.

    Parameters
    ----------
    reference : Reference
        Where depth and areas come from.
    brain : str
        Its name and `seed` decide everything random about it.
    pixel_um : float
        Pixel size of the scans; cells keep their size in µm.
    """

    def __init__(self, reference: Reference, brain: str, *, seed: int, pixel_um: float) -> None:
        self.reference, self.brain, self.seed, self.pixel_um = reference, brain, seed, pixel_um
        self.bend = Bend.draw(stream(seed, brain, "bend"), reference.extent_mm())
        self.stain = Stain.draw(stream(seed, brain, "stain"))
        self.labels = shifted_labels(reference, seed, brain)

    @cached_property
    def extent_mm(self) -> tuple[np.ndarray, np.ndarray]:
        """What the brain spans in its own space."""
        points = self.bend.inverse(self.reference.pial.points_mm[::20])
        return points.min(axis=0), points.max(axis=0)

    @cached_property
    def shape_px(self) -> tuple[int, int]:
        """Height and width of every scan of this brain: there is glass around the tissue."""
        (x0, _, z0), (x1, _, z1) = self.extent_mm
        step_px = int(_FIELD_STEP_MM * 1000 / self.pixel_um)
        height, width = (int(np.ceil((n + 14) / _FIELD_STEP_MM)) * step_px for n in (z1 - z0, x1 - x0))
        return height, width

    def plan(self, sections: int) -> list[SectionPlan]:
        """Return equally spaced coronal planes, front to back, numbered by their distance in sections of 20 µm."""
        rng = stream(self.seed, self.brain, "plan")
        low, high = self.extent_mm
        spacing = (high[1] - low[1] - 16) / sections
        first = high[1] - 8 - spacing * rng.uniform(0.3, 0.7)
        shrinkage = rng.uniform(1.02, 1.06)
        tilt = np.radians(rng.uniform(-2, 2, 2))
        field_mm = np.array(self.shape_px) * self.pixel_um / 1000
        plans = []
        for k in range(sections):
            y = first - k * spacing
            number = round((high[1] + 4 - y) / SECTION_MM)
            turn, shift = np.radians(rng.uniform(-2, 2)), rng.uniform(-1.5, 1.5, 2)
            matrix = scan_matrix(self.extent_mm, field_mm, y, turn, shift, shrinkage, tilt)
            plans.append(SectionPlan(f"{number:04d}", matrix, k % 3 != 1))
        return plans

    def paint(self, plan: SectionPlan) -> Painted:
        """Paint one section."""
        grid = self._cut(plan)
        rng = stream(self.seed, self.brain, "cells", plan.sample)
        tissue = np.zeros(self.shape_px, bool)
        thrown = []
        for rows in self._strips():
            tissue[rows], coverage, radius = self._cell_fields(grid, rows)
            cells = throw_cells(rng, coverage, radius, self.pixel_um)
            thrown.append((cells.row + rows.start, cells.column, cells.radius_um))
        cells = Cells(*(np.concatenate(part) for part in zip(*thrown, strict=True)))
        dark = draw_cells(cells, self.shape_px, self.pixel_um)
        return Painted(self._develop(rng, dark, tissue), *self._labels(grid))

    def _strips(self) -> list[slice]:
        # A strip fits the cache: several times faster than whole sections.
        return [slice(row, row + _STRIP) for row in range(0, self.shape_px[0], _STRIP)]

    def _cut(self, plan: SectionPlan) -> "_Cut":
        rows, columns = (np.arange(n + 1) for n in self._coarse_shape())
        xy = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2) * COARSE_UM / 1000
        points = self.bend(xy @ plan.matrix[:, :2].T + plan.matrix[:, 3])
        pial, white, vertex = self.reference.distances_mm(points, self._rough(points.reshape(len(rows), -1, 3)))
        deep = np.isin(self.reference.atlas_at(points), self.reference.indices("subcortical"))
        shape = (len(rows), len(columns))
        # A median of an odd number of labels is one of them: it takes away the crumbs of borders cut at a flat angle.
        number = ndimage.median_filter(self.labels[vertex].reshape(shape), size=3)
        return _Cut(pial.reshape(shape), white.reshape(shape), number, deep.reshape(shape))

    def _rough(self, points: np.ndarray) -> np.ndarray:
        """Return distances from the pial surface, exact at every sixth point: most lie far from the cortex."""
        part = points[::6, ::6]
        exact = self.reference.pial_distance_mm(part.reshape(-1, 3)).reshape(part.shape[:2])
        rows, columns = (np.arange(n) / 6 for n in points.shape[:2])
        at = np.stack(np.meshgrid(rows, columns, indexing="ij"))
        return ndimage.map_coordinates(exact, at, order=1, mode="nearest").ravel()

    def _coarse_shape(self) -> tuple[int, int]:
        height, width = (int(np.ceil(n * self.pixel_um / COARSE_UM)) for n in self.shape_px)
        return height, width

    def _cell_fields(self, grid: "_Cut", rows: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return tissue or not, coverage and cell radius (µm) at the pixels of some rows."""
        outside_pial, outside_white = (self._enlarge(part, self.pixel_um, rows) for part in (grid.pial, grid.white))
        number = self._repeat(grid.number, self.pixel_um, rows)
        tissue = outside_pial < 0
        cortex = tissue & (outside_white > 0) & (number > 0)
        deep = tissue & self._repeat(grid.deep, self.pixel_um, rows)
        coverage = np.where(tissue, np.float32(WHITE_MATTER[0]), np.float32(0))
        radius = np.full(tissue.shape, np.float32(WHITE_MATTER[1]))
        coverage[deep], radius[deep] = SUBCORTICAL
        depth = -outside_pial[cortex] / (outside_white[cortex] - outside_pial[cortex])
        tables, row_of = self._tables
        step = np.clip((depth * tables.shape[2]).astype(int), 0, tables.shape[2] - 1)
        row = row_of[number[cortex]]
        coverage[cortex], radius[cortex] = tables[0, row, step], tables[1, row, step]
        return tissue, coverage, radius

    def _centres(self, pixel_um: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the places of pixel centres on the coarse grid, down and across."""
        share = np.float32(pixel_um / COARSE_UM)
        height, width = (
            (np.arange(round(n * self.pixel_um / pixel_um), dtype=np.float32) + np.float32(0.5)) * share
            for n in self.shape_px
        )
        return height, width

    def _enlarge(self, coarse: np.ndarray, pixel_um: float, rows: slice = _ALL) -> np.ndarray:
        """Interpolate linearly at the centres of pixels, one axis after the other; float32."""
        down, across = self._centres(pixel_um)
        part = coarse.astype(np.float32)
        for axis, at in ((0, down[rows]), (1, across)):
            below = at.astype(int)
            share = (at - below)[:, None] if axis == 0 else at - below
            lower = part.take(below, axis)
            part = lower + (part.take(below + 1, axis) - lower) * share
        return part

    def _repeat(self, coarse: np.ndarray, pixel_um: float, rows: slice = _ALL) -> np.ndarray:
        """Return the nearest coarse value at the centres of pixels."""
        down, across = (np.round(at).astype(int) for at in self._centres(pixel_um))
        return coarse[np.ix_(down[rows], across)]

    @cached_property
    def _tables(self) -> tuple[np.ndarray, np.ndarray]:
        """Profiles (2, rows, depths) and the row of each atlas index."""
        table = self.reference.table
        profiles = [profile_of(name) for name in table["name"]]
        row_of = np.zeros(int(table["index"].max()) + 1, int)
        row_of[table["index"]] = np.arange(len(table))
        stacked = np.array([[p.coverage for p in profiles], [p.radius_um for p in profiles]], np.float32)
        return stacked, row_of

    def _develop(self, rng: np.random.Generator, dark: np.ndarray, tissue: np.ndarray) -> np.ndarray:
        """Turn darkness into grey values: staining curve, optics, uneven illumination, noise."""
        stain = self.stain
        grey = np.empty(self.shape_px, np.float32)
        for rows in self._strips():
            stained = stain.tissue - (stain.tissue - stain.cell) * dark[rows] ** np.float32(stain.gamma)
            grey[rows] = np.where(tissue[rows], stained, np.float32(stain.background))
        ndimage.gaussian_filter(grey, stain.blur_um / self.pixel_um, output=grey, truncate=3)
        y, x = (np.arange(n + 1) * COARSE_UM / 1000 for n in self._coarse_shape())
        where = np.stack(np.meshgrid(x, y, [0.0]), axis=-1).reshape(-1, 3)
        light = 1 + SmoothField.draw(rng, rms=stain.uneven, wavelength_mm=(60, 200), n_waves=8)(where)
        light = light.reshape(len(y), len(x))
        scan = np.empty(self.shape_px, np.uint8)
        for rows in self._strips():
            noise = rng.standard_normal(grey[rows].shape, dtype=np.float32)
            noise *= np.where(tissue[rows], np.float32(stain.noise), np.float32(_GLASS_NOISE * stain.noise))
            noise += grey[rows] * self._enlarge(light, self.pixel_um, rows)
            scan[rows] = np.clip(np.round(noise), 0, 255)
        return scan

    def _labels(self, grid: "_Cut") -> tuple[np.ndarray, np.ndarray]:
        outside_pial, outside_white = (self._enlarge(part, LABEL_UM) for part in (grid.pial, grid.white))
        number = self._repeat(grid.number, LABEL_UM)
        cortex = (outside_pial < 0) & (outside_white > 0) & (number > 0)
        area = self._area_of[number]
        return (cortex * 255).astype(np.uint8), np.where(cortex, area, 0).astype(
            np.uint8 if area.max() < 256 else np.uint16
        )

    @cached_property
    def _area_of(self) -> np.ndarray:
        return self.reference.areas_of_labels()


@dataclass(frozen=True)
class _Cut:
    """The plane of a section on the coarse grid: distances, atlas index of the nearest cortex, subcortical or not."""

    pial: np.ndarray
    white: np.ndarray
    number: np.ndarray
    deep: np.ndarray
