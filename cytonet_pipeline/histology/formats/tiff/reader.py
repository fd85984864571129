"""Reading the header of a TIFF without trusting it: which pages are levels of its pyramid, and what it says of itself.

Directories are read by `ifd` and interpreted by `page`; this module decides which ones, ends loops between them, and
turns every foreign exception into a `ScanError` that names the file. Pixels are `tiff_levels`' business.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tifffile import TiffPage

from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.formats.files import FileState
from cytonet_pipeline.histology.formats.levels import whole_factor
from cytonet_pipeline.histology.formats.tiff.directories import Directory, read_directory, read_form
from cytonet_pipeline.histology.formats.tiff.levels import COMPRESSIONS, TiffLevel, level_of
from cytonet_pipeline.histology.formats.tiff.page import page_of
from cytonet_pipeline.histology.formats.tiff.pixel_size import said_pixel_um
from cytonet_pipeline.histology.pixels.grey import Samples, samples_of_page

# A pyramid of factors of two has at most 17 levels above 100,000 px; a page beyond these is something else.
_MOST_PAGES = 64
_SUBIFDS = 330


@dataclass(frozen=True, eq=False)
class Header:
    """What is known of a TIFF before a pixel is read. `levels` begins with the full resolution."""

    state: FileState
    levels: tuple[TiffLevel, ...]
    said_um: tuple[float, float] | None

    @property
    def path(self) -> Path:
        """The file."""
        return self.state.path

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return self.state.size

    @property
    def page(self) -> TiffPage:
        """The page of the full resolution."""
        return self.levels[0].page

    @property
    def compression(self) -> str:
        """Compression of the full resolution, in words."""
        return COMPRESSIONS[int(self.page.compression)]

    def samples(self) -> Samples:
        """How grey values are made of what is stored.

        Raises
        ------
        ScanError
            Such samples are not read.
        """
        return samples_of_page(self.page, str(self.path))


def read_header(path: Path) -> Header:
    """Read the header of a TIFF, BigTIFF or OME-TIFF.

    Raises
    ------
    ScanError
        The file is missing or no TIFF, or announces what it cannot hold.
    """
    if path.is_dir():
        raise ScanError(f"{path}: is a folder, not a TIFF.", to_fix="give a TIFF here, or name an OME-Zarr .ome.zarr")
    try:
        state = FileState.of(path)
        form, offset = read_form(state)
        first = read_directory(state, form, offset)
        page = page_of(first, first=True)
        levels = (level_of(page, first, 1), *_reduced_levels(first, page))
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


def _reduced_levels(first: Directory, page: TiffPage) -> list[TiffLevel]:
    """The coarser levels, finest first. A page that cannot be read or is something else is no level."""
    levels: dict[int, TiffLevel] = {}
    for directory in _other_directories(first):
        try:
            other = page_of(directory, first=False)
            factor = reduction(page, other)
            if factor and factor not in levels:
                levels[factor] = level_of(other, directory, factor)
        except Exception:  # a damaged page is no level; the full resolution can still be read
            continue
    return [levels[factor] for factor in sorted(levels)]


def reduction(first: TiffPage, page: TiffPage) -> int:
    """By which whole number a page is the reduced first page; 0 if it is not."""
    kind = ("dtype", "bitspersample", "samplesperpixel", "photometric")
    if any(getattr(first, name) != getattr(page, name) for name in kind):
        return 0
    return whole_factor((first.imagelength, first.imagewidth), (page.imagelength, page.imagewidth))


def _other_directories(first: Directory) -> Iterator[Directory]:
    """Directories of pages that may be levels: the first one's SubIFDs, then the chain, each place in the file once."""
    seen = {first.offset}
    for offset in first.numbers(_SUBIFDS, _MOST_PAGES).tolist():
        if offset not in seen:
            seen.add(offset)
            try:
                yield read_directory(first.state, first.form, offset)
            except ScanError:
                continue
    for directory in _chain(first):
        if directory.offset not in seen:
            yield directory


def _chain(directory: Directory) -> Iterator[Directory]:
    """The pages after one; ends at a loop, at damage, or after many pages."""
    state, form, seen = directory.state, directory.form, {directory.offset}
    for _ in range(_MOST_PAGES):
        offset = directory.next_offset
        if offset in seen or not 0 < offset < state.size:
            return
        seen.add(offset)
        try:
            directory = read_directory(state, form, offset)
        except ScanError:
            return
        yield directory
