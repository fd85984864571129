"""The header of a TIFF, read without trusting it: which pages are levels of its pyramid, and what it says of itself.

Directories are read by `directory` and interpreted by `page`; this module decides which ones, ends loops between them,
and turns every foreign exception into a `ScanError` that names the file. Pixels are the business of `levels`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tifffile import TiffPage

from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.formats.digest import SAMPLED_BYTES, is_small, sampled
from cytonet_pipeline.histology.formats.files import FileState, read_bytes
from cytonet_pipeline.histology.formats.levels import whole_factor
from cytonet_pipeline.histology.formats.reader import Reader, Samples
from cytonet_pipeline.histology.formats.tiff.directory import FORMS, Directory, read_directory, read_first_directory
from cytonet_pipeline.histology.formats.tiff.levels import COMPRESSIONS, TiffLevel, level_of
from cytonet_pipeline.histology.formats.tiff.metadata import (
    page_pixel_um,
    pixel_size_conflict,
    require_labels,
    samples_of_page,
)
from cytonet_pipeline.histology.formats.tiff.page import page_of
from cytonet_pipeline.store import digest_array, digest_bytes, digest_of

# A pyramid of 100,000 px in factors of two has at most 17 levels; pages beyond these are something else.
_MOST_PAGES = 64
_SUBIFDS = 330


@dataclass(frozen=True, eq=False)
class TiffReader(Reader):
    """TIFF, BigTIFF or OME-TIFF."""

    format = "TIFF"
    levels: tuple[TiffLevel, ...]

    @classmethod
    def recognises(cls, path: Path, head: bytes) -> bool:
        """Whether a file begins as a TIFF does."""
        return head[:4] in FORMS

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read the header of a TIFF.

        Raises
        ------
        ScanError
            The file is missing or no TIFF, or announces what it cannot hold.
        """
        if path.is_dir():
            raise ScanError(
                f"{path}: is a folder, not a TIFF.", to_fix="give a TIFF here, or name an OME-Zarr .ome.zarr"
            )
        try:
            first = read_first_directory(FileState.of(path))
            page = page_of(first, first=True)
            levels = (level_of(page, first, 1), *_reduced_levels(first, page))
            return cls(first.state, levels, page_pixel_um(page))
        except ScanError:
            raise
        except OSError as error:
            raise ScanError(f"{path}: cannot be read ({error.strerror or error}).") from error
        except Exception as error:  # a damaged header can make tifffile raise anything
            raise ScanError(
                f"{path}: is no TIFF that can be read ({type(error).__name__}: {error!s:.120}).",
                to_fix="copy it again from its source, or leave it out with status withdrawn in a section table",
            ) from error

    @property
    def page(self) -> TiffPage:
        """The page of the full resolution."""
        return self.levels[0].page

    @property
    def compression(self) -> str:
        """Compression of the full resolution, in words."""
        return COMPRESSIONS[int(self.page.compression)]

    def samples(self) -> Samples:
        """Describe how grey values are made of what is stored.

        Raises
        ------
        ScanError
            Such samples are not read.
        """
        return samples_of_page(self.page, str(self.path))

    def require_labels(self) -> None:
        """Check that pixels are whole numbers, stored without loss.

        Raises
        ------
        ScanError
            They are not.
        """
        require_labels(self.page, str(self.path))

    def pixel_size_conflict(self, tolerance: float) -> str:
        """Describe OME metadata and resolution tags that differ by more than `tolerance` (a share)."""
        return pixel_size_conflict(self.page, tolerance)

    def digest(self) -> str:
        """Return the digest of size, IFD offsets, places and byte counts of all tiles, and the bytes of 64 tiles."""
        state = self.state
        if is_small(state.size):
            return digest_of({"bytes": state.size, "all": digest_bytes(read_bytes(state, 0, state.size))})
        tables = [
            (level.ifd_offset, level.height, level.width, *map(digest_array, level.table.all()))
            for level in self.levels
        ]
        offsets, counts = (numbers.ravel() for numbers in self.levels[0].table.all())
        pieces = []
        for tile in sampled(offsets.size):
            start, count = max(0, int(offsets[tile])), max(0, int(counts[tile]))
            # Of one huge strip a piece at its beginning, its middle and its end.
            for begin in sorted({0, max(0, (count - SAMPLED_BYTES) // 2), max(0, count - SAMPLED_BYTES)}):
                piece = read_bytes(state, start + begin, min(SAMPLED_BYTES, count - begin))
                pieces.append(digest_bytes(piece))
        return digest_of({"bytes": state.size, "levels": tables, "sampled": pieces})


def _reduced_levels(first: Directory, page: TiffPage) -> list[TiffLevel]:
    """Find the coarser levels, finest first. A page that cannot be read or is something else is no level."""
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
    """Return the whole number by which a page is the reduced first page; 0 if it is not."""
    kind = ("dtype", "bitspersample", "samplesperpixel", "photometric")
    if any(getattr(first, name) != getattr(page, name) for name in kind):
        return 0
    return whole_factor((first.imagelength, first.imagewidth), (page.imagelength, page.imagewidth))


def _other_directories(first: Directory) -> Iterator[Directory]:
    """Yield directories of pages that may be levels: SubIFDs of the first, then the chain, each place once."""
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
    """Yield the directories after one; ends at a loop, at damage, or after many pages."""
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
