"""Synthetic brains of the poster's size: 4128 sections of 100,000 × 80,000 px in about one gigabyte.

Full-sized is all that a pipeline has to cope with: the number of sections and tiles, the extent of scans, the length of
tables. What a tile shows is simple: one texture per tissue. Use the small phantom to see whether training learns.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np

from cytonet_pipeline import progress
from cytonet_pipeline.phantom import dataset
from cytonet_pipeline.phantom.draws import stream
from cytonet_pipeline.phantom.poster.cortex_grid import CortexGrid
from cytonet_pipeline.phantom.poster.shared_tiles import TiledLevel, write_shared_tiles
from cytonet_pipeline.phantom.poster.tile_bank import DEEP, FACTORS, GLASS, TILE_PX, WHITE, TileBank, compressed
from cytonet_pipeline.phantom.reference import Reference
from cytonet_pipeline.phantom.sections import SECTION_MM, Painter, SectionPlan, scan_matrix
from cytonet_pipeline.store.processes import usable_cores

BRAINS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B20")
SECTIONS = 4128
WIDTH_PX, HEIGHT_PX = 100_000, 80_000
PIXEL_UM = 1.0
GRID_MM = 1.0
README = """Synthetic brains of the poster's size
=====================================

Every section in this data set was made by a program (cytonet phantom --scale poster). No tissue was ever cut. It shows
that the pipeline copes with the number and the size of sections, and nothing else: a tile of a scan has one texture of
its tissue.

{reference}

Sections are coronal, 20 um thick, of 100,000 x 80,000 px at 1 um, at unequal distances. Scans are tiled BigTIFFs in
which many tiles are the same bytes: copied by programs that do not know this, they grow to gigabytes each. One section
in five is annotated.
"""
_GLASS_MM = 4.0  # around the tissue
_ANNOTATED_EVERY = 5
_COARSE_TILE_PX = 256
_LABEL_UM = 400.0  # pixels of masks and annotations


def sections_by_brain(brains: Sequence[str], total: int) -> dict[str, int]:
    """Distribute sections over brains as evenly as possible."""
    return {name: total // len(brains) + (k < total % len(brains)) for k, name in enumerate(brains)}


def write_poster_brains(folder: Path, reference: Reference, brains: Sequence[str], total: int, seed: int) -> None:
    """Write the data set of all brains.

    Parameters
    ----------
    folder : Path
        The BIDS data set, `…/brains`.
    brains : sequence of str
        The last one also gets the inverse of its transform.
    total : int
        Sections of all brains together.
    """
    grid = CortexGrid.of(reference, GRID_MM)
    made = {name: PosterBrain(reference, grid, name, seed) for name in brains}
    plans = {name: made[name].plan(n) for name, n in sections_by_brain(brains, total).items()}
    beside = "Their reference space lies beside this folder, or where `phantom.json` says."
    dataset.write_texts(folder, list(brains), plans, README.format(reference=beside))
    dataset.write_area_names(folder, reference)
    for name, brain in made.items():
        dataset.write_registration(folder, brain.painter, plans[name], with_inverse=name == brains[-1])
        dataset.scan_path(folder, name, plans[name][0]).parent.mkdir(parents=True, exist_ok=True)
    sections = [(made[name], plan) for name in brains for plan in plans[name]]
    with ThreadPoolExecutor(max_workers=min(4, usable_cores())) as pool:
        written = pool.map(lambda section: section[0].write(folder, section[1]), sections)
        for _ in progress.track(written, "Sections", total=len(sections)):
            pass


class PosterBrain:
    """One brain: where its sections lie and what their tiles show."""

    def __init__(self, reference: Reference, grid: CortexGrid, name: str, seed: int) -> None:
        self.name, self.seed, self.grid = name, seed, grid
        self.painter = Painter(reference, name, seed=seed, pixel_um=PIXEL_UM)
        cortical = reference.table[reference.table["kind"] != "subcortical"].drop_duplicates("area")
        self.bank = TileBank(self.painter.stain, cortical["name"].tolist(), seed, name)
        place = dict(zip(cortical["area"], range(DEEP + 1, DEEP + 1 + len(cortical)), strict=True))
        self._tissue_of = np.full(int(reference.table["index"].max()) + 1, WHITE)
        for index, area in zip(reference.table["index"], reference.table["area"], strict=True):
            self._tissue_of[index] = place.get(area, WHITE)

    def plan(self, sections: int) -> list[SectionPlan]:
        """Return coronal planes from front to back; gaps of 0.02 mm and more, some stretches missing."""
        rng = stream(self.seed, self.name, "poster plan")
        low, high = self.painter.extent_mm
        steps = int((high[1] - low[1] - 8) / SECTION_MM)
        gaps = rng.gamma(3.0, size=sections)
        gaps[rng.random(sections) < 0.02] *= 6
        numbers = np.arange(sections) + np.floor(np.cumsum(gaps) / gaps.sum() * max(0, steps - sections)).astype(int)
        tilt = np.radians(rng.uniform(-2, 2, 2))
        plans = []
        for k, number in enumerate(numbers.tolist()):
            turn, shift = np.radians(rng.uniform(-1, 1)), rng.uniform(-1, 1, 2)
            y = high[1] - 4 - number * SECTION_MM
            matrix = scan_matrix(self.painter.extent_mm, _field_mm(), y, turn, shift, self._shrinkage, tilt)
            plans.append(SectionPlan(f"{number + 200:04d}", matrix, k % _ANNOTATED_EVERY == 2))
        return plans

    @cached_property
    def _shrinkage(self) -> float:
        """Brain mm per scan mm, such that the brain fits on the glass."""
        low, high = self.painter.extent_mm
        height_mm, width_mm = _field_mm() - 2 * _GLASS_MM
        return float(max((high[0] - low[0]) / width_mm, (high[2] - low[2]) / height_mm))

    def write(self, folder: Path, plan: SectionPlan) -> None:
        """Write a section's scan and all that lies beside it."""
        scan = dataset.scan_path(folder, self.name, plan)
        write_shared_tiles(scan, self.levels(plan), PIXEL_UM)
        dataset.write_beside_scan(folder, self.name, plan, *self.labels(plan), pixel_um=PIXEL_UM, label_um=_LABEL_UM)

    def tissues(self, plan: SectionPlan) -> np.ndarray:
        """Return the tissue that each tile of a section shows: that at its middle."""
        edge_mm = TILE_PX * PIXEL_UM / 1000
        rows, columns = -(-HEIGHT_PX // TILE_PX), -(-WIDTH_PX // TILE_PX)
        points = self._in_reference(plan, (np.arange(rows) + 0.5) * edge_mm, (np.arange(columns) + 0.5) * edge_mm)
        pial, white, number = self._cortex(points)
        tissue = np.where(pial < 0, WHITE, GLASS)
        reference = self.painter.reference
        tissue[(pial < 0) & np.isin(reference.atlas_at(points), reference.indices("subcortical"))] = DEEP
        cortex = (pial < 0) & (white > 0) & (number > 0)
        tissue[cortex] = self._tissue_of[number[cortex]]
        return tissue.reshape(rows, columns)

    def labels(self, plan: SectionPlan) -> tuple[np.ndarray, np.ndarray]:
        """Return the cortex mask (0 or 255) and annotated areas of a section."""
        height_mm, width_mm = _field_mm()
        rows, columns = (round(mm * 1000 / _LABEL_UM) for mm in (height_mm, width_mm))
        points = self._in_reference(
            plan, (np.arange(rows) + 0.5) * height_mm / rows, (np.arange(columns) + 0.5) * width_mm / columns
        )
        pial, white, number = self._cortex(points)
        cortex = (pial < 0) & (white > 0) & (number > 0)
        area = np.where(cortex, self.painter.reference.areas_of_labels()[number], 0)
        kind = np.uint8 if area.max(initial=0) < 256 else np.uint16
        return (cortex * 255).astype(np.uint8).reshape(rows, columns), area.astype(kind).reshape(rows, columns)

    def levels(self, plan: SectionPlan) -> list[TiledLevel]:
        """Return the pyramid: tiles of the bank at the finer levels, a picture of its own at the coarsest."""
        tissue = self.tissues(plan)
        levels = []
        for factor in FACTORS[:-1]:
            size = (WIDTH_PX // factor, HEIGHT_PX // factor, TILE_PX // factor)
            levels.append(TiledLevel(*size, tissue, self.bank.tiles(factor)))
        return [*levels, _pictured(self._mean_greys[tissue])]

    @cached_property
    def _mean_greys(self) -> np.ndarray:
        return self.bank.greys(FACTORS[-1])[:, 0, 0]

    def _in_reference(self, plan: SectionPlan, y_mm: np.ndarray, x_mm: np.ndarray) -> np.ndarray:
        xy = np.stack(np.meshgrid(x_mm, y_mm), axis=-1).reshape(-1, 2)
        return self.painter.bend(xy @ plan.matrix[:, :2].T + plan.matrix[:, 3])

    def _cortex(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        pial, white = self.grid.distances_mm(points)
        return pial, white, self.painter.labels[self.grid.vertex_at(points)]


def _field_mm() -> np.ndarray:
    """Return height and width of every scan (mm)."""
    return np.array([HEIGHT_PX, WIDTH_PX]) * PIXEL_UM / 1000


def _pictured(grey: np.ndarray) -> TiledLevel:
    """Return the coarsest level from the mean grey value of each tile, cut into tiles of its own."""
    factor, edge = FACTORS[-1], _COARSE_TILE_PX
    each = TILE_PX // factor
    whole = np.repeat(np.repeat(grey, each, axis=0), each, axis=1)
    rows, columns = -(-whole.shape[0] // edge), -(-whole.shape[1] // edge)
    whole = np.pad(whole, ((0, rows * edge - whole.shape[0]), (0, columns * edge - whole.shape[1])), mode="edge")
    tiles = [compressed(tile) for band in np.split(whole, rows) for tile in np.split(band, columns, axis=1)]
    grid = np.arange(rows * columns).reshape(rows, columns)
    return TiledLevel(WIDTH_PX // factor, HEIGHT_PX // factor, edge, grid, tiles)
