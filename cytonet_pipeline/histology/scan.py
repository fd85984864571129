"""A scan of a section: patches at any coarser pixel size, without ever reading the whole scan.

Coordinates are full-resolution pixels with the origin at the outer corner of the top-left pixel. Pixels are grey values
of 8 bit, dark on light, whatever the file holds.
"""

import itertools
import math
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cytonet_pipeline.dataset import UNPICKED, Pick, sidecar_pixel_um
from cytonet_pipeline.errors import DataFault, ScanError
from cytonet_pipeline.histology.formats.levels import Level, missing_only_in, scratch
from cytonet_pipeline.histology.formats.reader import Reader
from cytonet_pipeline.histology.formats.registry import open_reader
from cytonet_pipeline.histology.pixels.averaging import Boxes, average, averaged
from cytonet_pipeline.histology.pixels.grey import Greyscale
from cytonet_pipeline.histology.pixels.mosaic import Mosaic
from cytonet_pipeline.histology.pixels.resemblance import is_other_picture
from cytonet_pipeline.histology.pixels.tiles import tile_cache
from cytonet_pipeline.histology.pixels.tissue import otsu_classes

# Width and height of a pixel may differ by as much before an image counts as anisotropic.
_ANISOTROPY = 1e-3
_ROUNDING = 1e-6
_REGION_BYTES = 24 << 20
_BACKGROUND_PX = 512
# Fewer patches of a section, in the order of the index, lie closer together than bands are wide.
_BANDS_FROM = 1024


def open_scan(
    path: Path | str,
    pixel_um: float | None = None,
    window: tuple[int, int] | None = None,
    *,
    invert: bool = False,
    pick: Pick = UNPICKED,
) -> "Scan":
    """Open a scan: TIFF, BigTIFF, OME-TIFF or OME-Zarr, in tiles or strips, with or without a pyramid.

    Parameters
    ----------
    pixel_um : float, optional
        Edge of a full-resolution pixel. Default: by the sidecar beside the scan, else OME metadata, else the
        resolution tags.
    window : (low, high), optional
        Grey values that become 0 and 255; default: the full range of the scan's bits.
    invert : bool
        Whether the scan is light on dark: the two grey values are exchanged.
    pick : Pick
        Which image of a file that holds several; default: the only one that can be the scan.

    Raises
    ------
    ScanError
        The file cannot be read, leaves open which of its images is the scan, or nothing gives its pixel size.
    """
    path = Path(path)
    reader = open_reader(path, pick)
    grey = Greyscale(reader.samples(), str(path), window, invert=invert)
    return Scan(reader, pixel_um or _scan_pixel_um(reader), grey, grey.window if invert else window, pick)


class Scan:
    """An open scan. Thread-safe; can be sent to other processes, which open the file themselves."""

    def __init__(
        self,
        reader: Reader,
        pixel_um: float,
        grey: Greyscale,
        window: tuple[int, int] | None = None,
        pick: Pick = UNPICKED,
    ) -> None:
        self.path = reader.path
        self.pick = pick
        self.pixel_um = float(pixel_um)
        self.window = window
        self.bits = grey.bits
        self.white_is_zero = grey.white_is_zero
        self.compression = reader.compression
        self.reader = reader
        self._levels = reader.levels
        self._mosaic = Mosaic(f"{reader.state} {pick}", self.levels[0], grey, lambda: self.background)

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return self.reader.bytes

    @property
    def width_px(self) -> int:
        """Width at full resolution."""
        return self._levels[0].width

    @property
    def height_px(self) -> int:
        """Height at full resolution."""
        return self._levels[0].height

    @property
    def levels(self) -> list[tuple[int, int]]:
        """Height and width of each level of the pyramid, the full resolution first."""
        return [(level.height, level.width) for level in self._levels]

    @property
    def file_pixel_um(self) -> float | None:
        """Edge of a pixel as the file itself gives it, whatever `pixel_um` is; of two edges the more deviant one."""
        edges = self.reader.file_pixel_um
        return max(edges, key=lambda edge: abs(math.log(edge / self.pixel_um))) if edges else None

    def read_patch(
        self, x_px: float, y_px: float, size_px: int, pixel_um: float, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Read a square patch, averaged over the area that each of its pixels covers.

        Parameters
        ----------
        x_px, y_px : float
            Centre of the patch, in full-resolution pixels from the outer corner of the first one.
        size_px : int
            Edge of the patch in output pixels.
        pixel_um : float
            Edge of an output pixel; not smaller than the scan's.
        out : (size_px, size_px) uint8 array, optional
            Where to put the patch.

        Returns
        -------
        (size_px, size_px) uint8 array
            From the coarsest level that is not coarser than asked for. Outside the scan: its background.

        Raises
        ------
        ScanError
            `pixel_um` is finer than the scan, or the scan is damaged at this place.
        """
        level, step = self._level_for(pixel_um)
        half = size_px * step / 2
        down = Boxes.snapped(y_px / level.factor - half, step, size_px)
        right = Boxes.snapped(x_px / level.factor - half, step, size_px)
        if out is None:
            out = np.empty((size_px, size_px), np.uint8)
        self._average(level, down, right, out)
        return out

    def read_patches(
        self, xy_px: np.ndarray, size_px: int, pixel_um: float, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Read several patches; if they are many, in an order in which neighbours share tiles.

        For all patches of 2048 px of a section each tile is decoded about 1.1 times; one by one in the order of the
        patch index 1.2 times.

        Parameters
        ----------
        xy_px : (N, 2) array
            Centres, as in `read_patch`.
        out : (N, size_px, size_px) uint8 array, optional
            Where to put the patches.

        Returns
        -------
        (N, size_px, size_px) uint8 array
            In the order of `xy_px`.
        """
        xy_px = np.asarray(xy_px, dtype=np.float64).reshape(-1, 2)
        if out is None:
            out = np.empty((len(xy_px), size_px, size_px), np.uint8)
        level, step = self._level_for(pixel_um)
        order = np.arange(len(xy_px)) if len(xy_px) < _BANDS_FROM else _in_bands(xy_px / level.factor, size_px * step)
        for i in order.tolist():
            self.read_patch(xy_px[i, 0], xy_px[i, 1], size_px, pixel_um, out=out[i])
        return out

    def thumbnail(self, width_px: int) -> np.ndarray:
        """Read the whole scan, about `width_px` wide and of its proportions, band by band; never enlarged.

        Returns
        -------
        (height, width) uint8 array
        """
        # A scan of absurd proportions must not become a picture of absurd height.
        step = max(1.0, self.width_px / width_px, self.height_px / (16 * width_px))
        height, width = (max(1, round(edge / step)) for edge in (self.height_px, self.width_px))
        level = self._coarsest(min(self.height_px / height, self.width_px / width))
        out = np.empty((height, width), np.uint8)
        down = Boxes(0.0, max(1.0, self.height_px / level.factor / height), height)
        right = Boxes(0.0, max(1.0, self.width_px / level.factor / width), width)
        self._average(level, down, right, out)
        return out

    @cached_property
    def background(self) -> int:
        """Grey value of the bare slide: the median of the light class (Otsu) in up to 64 tiles, averaged down."""
        ratio = max(1.0, self.width_px / _BACKGROUND_PX)
        level = self._coarsest(ratio)
        # Averaged, because between the cells tissue can be as light as the slide.
        step = max(1, int(ratio) // level.factor)
        pieces = [averaged(chunk, step).ravel() for chunk in self._mosaic.sampled_chunks(level)]
        _, light = otsu_classes(np.concatenate(pieces)) if pieces else (None, np.array([255], np.uint8))
        return int(np.median(light))

    def sampled_values(self) -> np.ndarray:
        """Return grey values before the window, of up to 64 tiles of a coarse level."""
        return self._mosaic.sampled_values(self._coarsest(max(1.0, self.width_px / _BACKGROUND_PX)))

    def verify(self) -> None:
        """Check that the scan is complete: tiles lie in the file, levels show the scan, first, middle and last decode.

        Raises
        ------
        ScanError
            It is truncated or damaged, or one of its levels is; the message gives the extent.
        """
        for level in self._levels:
            size = f"the level of {level.width} × {level.height} px"
            if beyond := level.beyond():
                raise ScanError(
                    f"{self.path}: truncated, {beyond} tiles or strips of {size} lie beyond the end of the file or "
                    "where no pixels can be.",
                    to_fix="copy the scan again from its source",
                )
            if level.factor > 1 and (missing := missing_only_in(level, self._levels[0])):
                raise ScanError(
                    f"{self.path}: {missing} tiles of {size} are missing, the full resolution has them.",
                    to_fix="copy the scan again from its source, or build its pyramid again",
                )
        for finer, level in itertools.pairwise(self._levels):
            if is_other_picture(self._mosaic, level, finer):
                raise ScanError(
                    f"{self.path}: its picture of {level.width} × {level.height} px has the size of a level of the "
                    "pyramid, but shows something else.",
                    to_fix="export the scan without its macro photograph and label, or with NewSubfileType set",
                )
        rows, columns = self._levels[0].grid
        for row, column in {(0, 0), (rows // 2, columns // 2), (rows - 1, columns - 1)}:
            self._levels[0].chunk(row, column)

    def close(self) -> None:
        """Close the file. Reading again opens it again."""
        self.reader.close()

    def __enter__(self) -> "Scan":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_again, (self.path, self.pixel_um, self.window, self.pick)

    def __repr__(self) -> str:
        return f"<Scan {self.path.name}: {self.width_px} × {self.height_px} px of {self.pixel_um:g} µm>"

    def _level_for(self, pixel_um: float) -> tuple[Level, float]:
        """Choose the level to read from; return also how many of its pixels one output pixel covers along an edge."""
        ratio = pixel_um / self.pixel_um
        if not ratio >= 1 - _ROUNDING:
            raise ScanError(
                f"{self.path}: asked for pixels of {pixel_um:g} µm, the scan has {self.pixel_um:g} µm.",
                to_fix="ask for pixels that are not finer than the scan's; nothing is enlarged",
            )
        level = self._coarsest(ratio)
        return level, max(1.0, ratio / level.factor)

    def _coarsest(self, ratio: float) -> Level:
        return [level for level in self._levels if level.factor <= ratio * (1 + _ROUNDING)][-1]

    def _average(self, level: Level, down: Boxes, right: Boxes, out: np.ndarray) -> None:
        """Average a region into `out`, in bands of rows that fit into memory."""
        width = right.last - right.first
        if down.step == right.step == 1 and down.whole and right.whole:
            self._mosaic.region(level, down.first, right.first, out)
            return
        rows = max(1, int(_REGION_BYTES / (max(1, width) * (down.step + 1))))
        for begin in range(0, down.count, rows):
            band = down.part(begin, min(begin + rows, down.count))
            height = band.last - band.first
            region = scratch("region", height * width).reshape(height, width)
            self._mosaic.region(level, band.first, right.first, region)
            out[begin : begin + band.count] = average(region, band, right)


def _open_again(path: Path, pixel_um: float, window: tuple[int, int] | None, pick: Pick) -> Scan:
    return open_scan(path, pixel_um, window, pick=pick)


def _in_bands(xy: np.ndarray, edge: float) -> np.ndarray:
    """Order patches of `edge` px around `xy`: up and down in bands so narrow that one row of patches stays cached."""
    # A part of the budget, because patches of a row do not begin at one height.
    width = max(edge, 0.6 * (tile_cache().budget_bytes / edge - edge))
    band = xy[:, 0] // width
    return np.lexsort((np.where(band % 2, -xy[:, 1], xy[:, 1]), band))


def _scan_pixel_um(reader: Reader) -> float:
    """Return the pixel size (µm) by the sidecar, else by the file itself."""
    try:
        beside = sidecar_pixel_um(reader.path)
    except DataFault as fault:
        raise ScanError(f"{reader.path}: {fault.what}") from fault
    if beside is not None:
        return beside
    if reader.file_pixel_um is None:
        remark = f": {reader.size_remark}" if reader.size_remark else ""
        raise ScanError(
            f"{reader.path}: nothing says how large its pixels are{remark}.",
            looked_for=(
                "PixelSize in the JSON beside it, or in one that it inherits from",
                "OME metadata",
                "resolution tags with a unit",
            ),
            to_fix="write PixelSize and PixelSizeUnits into the sidecar, or pixel_size_um into the section table",
        )
    width, height = reader.file_pixel_um
    if abs(width - height) > _ANISOTROPY * width:
        raise ScanError(
            f"{reader.path}: its pixels are {width:g} × {height:g} µm.",
            to_fix="resample the scan to square pixels, or give the right size in the sidecar",
        )
    return width
