"""The few different tiles that scans of the poster's size are made of: one texture per tissue, at every level.

A texture repeats within its tile, which makes the tile small on disk, and is averaged for the coarser levels, so that
every level shows the same section.
"""

from functools import cached_property

import imagecodecs
import numpy as np

from cytonet_pipeline.phantom.cells import SUBCORTICAL, WHITE_MATTER, Cells, draw_cells, profile_of, throw_cells
from cytonet_pipeline.phantom.draws import stream
from cytonet_pipeline.phantom.sections import Stain

TILE_PX = 1024
# Edges of tiles and pixel factors of the levels: a tile covers the same tissue at each of them.
FACTORS = (1, 4, 16, 64)
GLASS, WHITE, DEEP = 0, 1, 2
_TEXTURE_PX = 64
# The phantom's cells are larger than life; here they have about their own size (a radius of 3 to 9 µm).
_CELL_SCALE_UM = 16.0
_GREY_STEPS = 12


class TileBank:
    """Tiles of glass, white matter, subcortical grey and each area, in the stain of one brain.

    Parameters
    ----------
    names : sequence of str
        Names of the areas; area k has the tissue number k + 3.
    """

    def __init__(self, stain: Stain, names: list[str], seed: int, brain: str) -> None:
        self.stain, self.names, self.seed, self.brain = stain, names, seed, brain

    @cached_property
    def _textures(self) -> list[np.ndarray]:
        return [self._texture(tissue) for tissue in range(3 + len(self.names))]

    def tiles(self, factor: int) -> list[bytes]:
        """Return the compressed tile of each tissue at a level, `TILE_PX / factor` px wide."""
        return self._compressed[factor]

    def greys(self, factor: int) -> np.ndarray:
        """Return what a tile shows at a level, (tissues, edge, edge) uint8."""
        return np.stack([_averaged(texture, factor) for texture in self._textures])

    @cached_property
    def _compressed(self) -> dict[int, list[bytes]]:
        return {factor: [compressed(grey) for grey in self.greys(factor)] for factor in FACTORS[:-1]}

    def _texture(self, tissue: int) -> np.ndarray:
        """Return grey values (64, 64) of a tissue that can be repeated without a seam."""
        shape = (_TEXTURE_PX, _TEXTURE_PX)
        if tissue == GLASS:
            return np.full(shape, round(self.stain.background), np.uint8)
        coverage, radius_um = {WHITE: WHITE_MATTER, DEEP: SUBCORTICAL}.get(tissue) or self._of_area(tissue - 3)
        rng = stream(self.seed, self.brain, "tile", tissue)
        cells = throw_cells(rng, np.full(shape, coverage), np.full(shape, radius_um), _CELL_SCALE_UM)
        # Nine copies side by side: what reaches over an edge comes in at the opposite one.
        around = [(row, column) for row in range(3) for column in range(3)]
        nine = Cells(
            np.concatenate([cells.row + _TEXTURE_PX * row for row, _ in around]),
            np.concatenate([cells.column + _TEXTURE_PX * column for _, column in around]),
            np.tile(cells.radius_um, 9),
        )
        middle = slice(_TEXTURE_PX, 2 * _TEXTURE_PX)
        dark = draw_cells(nine, (3 * _TEXTURE_PX, 3 * _TEXTURE_PX), _CELL_SCALE_UM)[middle, middle]
        # Few grey values compress well.
        dark = np.round(dark * _GREY_STEPS) / _GREY_STEPS
        grey = self.stain.tissue - (self.stain.tissue - self.stain.cell) * dark**self.stain.gamma
        return np.round(grey).astype(np.uint8)

    def _of_area(self, area: int) -> tuple[float, float]:
        profile = profile_of(self.names[area])
        return float(profile.coverage.mean()), float(np.average(profile.radius_um, weights=profile.coverage))


def compressed(grey: np.ndarray) -> bytes:
    """Return a tile as it is stored in a file."""
    return bytes(imagecodecs.zstd_encode(grey.tobytes(), level=3))


def _averaged(texture: np.ndarray, factor: int) -> np.ndarray:
    edge = _TEXTURE_PX // factor
    means = texture.reshape(edge, factor, edge, factor).mean(axis=(1, 3))
    return np.tile(np.round(means).astype(np.uint8), (TILE_PX // _TEXTURE_PX,) * 2)
