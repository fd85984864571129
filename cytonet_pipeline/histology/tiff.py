"""Reading the header of a TIFF without trusting it: which pages are levels of its pyramid, and what it says of itself.

Pages are parsed by `tifffile`; this module decides which ones, ends loops between them, and turns every foreign
exception into a `ScanError` that names the file. Pixels are `levels`' business.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tifffile import TiffFile, TiffPage

from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.levels import COMPRESSIONS, Level, level_of
from cytonet_pipeline.histology.pixel_size import said_pixel_um
from cytonet_pipeline.histology.tiles import FileState

# A pyramid of factors of two has at most 17 levels above 100,000 px; a page beyond these is something else.
_MOST_PAGES = 64


@dataclass(frozen=True, eq=False)
class Header:
    """What is known of a TIFF before a pixel is read. `levels` begins with the full resolution."""

    state: FileState
    levels: tuple[Level, ...]
    said_um: tuple[float, float] | None

    @property
    def path(self) -> Path:
        """The file."""
        return self.state.path

    @property
    def page(self) -> TiffPage:
        """The page of the full resolution."""
        return self.levels[0].page

    @property
    def compression(self) -> str:
        """Compression of the full resolution, in words."""
        return COMPRESSIONS[int(self.page.compression)]


def read_header(path: Path) -> Header:
    """Read the header of a TIFF, BigTIFF or OME-TIFF.

    Raises
    ------
    ScanError
        The file is missing or no TIFF, or announces what it cannot hold.
    """
    if path.is_dir():
        raise ScanError(
            f"{path}: is a folder; OME-Zarr is not read yet.", to_fix="convert the scan to OME-TIFF with tiles"
        )
    try:
        state = FileState.of(path)
        # The switches keep tifffile from reading vendors' formats, which would parse every page.
        with TiffFile(path, _multifile=False, is_lsm=False, is_scanimage=False, is_ndpi=False) as tif:
            page = tif.pages.first
            levels = (level_of(page, state, 1), *_reduced_levels(tif, page, state))
            for level in levels:
                level.page.init_decode()
            return Header(state, levels, said_pixel_um(page))
    except ScanError:
        raise
    except FileNotFoundError:
        raise ScanError(f"{path}: is not there.", to_fix="put it there or correct the path") from None
    except OSError as error:
        raise ScanError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except Exception as error:  # a damaged header can make tifffile raise anything
        raise ScanError(
            f"{path}: is no TIFF that can be read ({type(error).__name__}: {error!s:.120}).",
            to_fix="copy it again from its source, or leave it out with status withdrawn in a section table",
        ) from error


def _reduced_levels(tif: TiffFile, first: TiffPage, state: FileState) -> list[Level]:
    """The coarser levels, finest first. A page that cannot be read or is something else is no level."""
    levels: dict[int, Level] = {}
    for page in _other_pages(tif, first):
        try:
            factor = reduction(first, page)
            if factor and factor not in levels:
                levels[factor] = level_of(page, state, factor)
        except (ScanError, TypeError, ValueError):
            continue
    return [levels[factor] for factor in sorted(levels)]


def reduction(first: TiffPage, page: TiffPage) -> int:
    """By which whole number a page is the reduced first page; 0 if it is not.

    Labels, macro photographs and thumbnails of arbitrary size stand among the pages of slide scanners: only a page
    whose both edges are the same whole part of the full ones, rounded up or down, is a level.
    """
    kind = ("dtype", "bitspersample", "samplesperpixel", "photometric")
    if any(getattr(first, name) != getattr(page, name) for name in kind):
        return 0
    factor = round(first.imagewidth / page.imagewidth)
    edges = ((first.imagewidth, page.imagewidth), (first.imagelength, page.imagelength))
    fits = all(math.floor(full / factor) <= part <= math.ceil(full / factor) for full, part in edges if factor)
    return factor if factor >= 2 and fits else 0


def _other_pages(tif: TiffFile, first: TiffPage) -> Iterator[TiffPage]:
    """Pages that may be levels: the first page's SubIFDs, then the chain of pages, each place in the file once."""
    seen = {first.offset}
    subifds = [offset for offset in (first.subifds or ()) if isinstance(offset, int)][:_MOST_PAGES]
    for number, offset in enumerate((*subifds, *_chain(tif, first.offset)), start=1):
        if offset in seen:
            continue
        seen.add(offset)
        try:
            tif.filehandle.seek(offset)
            yield TiffPage(tif, index=number)
        except Exception:  # a damaged page is no level; the full resolution can still be read
            continue


def _chain(tif: TiffFile, offset: int) -> Iterator[int]:
    """Offsets of the pages after the one at `offset`; ends at a loop, at damage, or after many pages."""
    form, handle = tif.tiff, tif.filehandle
    seen = {offset}
    for _ in range(_MOST_PAGES):
        try:
            handle.seek(offset)
            (entries,) = struct.unpack(form.tagnoformat, handle.read(form.tagnosize))
            handle.seek(offset + form.tagnosize + entries * form.tagsize)
            (offset,) = struct.unpack(form.offsetformat, handle.read(form.offsetsize))
        except (struct.error, OSError, ValueError, OverflowError):
            return
        if offset == 0 or offset in seen or offset >= handle.size:
            return
        seen.add(offset)
        yield offset
