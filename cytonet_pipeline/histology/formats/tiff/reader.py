"""The header of a TIFF, read without trusting it: levels of the pyramid, pixel size, and what a person should check.

Directories are read by `directory` and interpreted by `page` and `pages`; `contents` decides which of them is the scan.
This module turns every foreign exception into a `ScanError` that names the file. Pixels are the business of `levels`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tifffile import TiffPage

from cytonet_pipeline.dataset import UNPICKED, Pick
from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.formats.digest import SAMPLED_BYTES, is_small, sampled
from cytonet_pipeline.histology.formats.files import FileState, read_bytes
from cytonet_pipeline.histology.formats.levels import missing_only_in
from cytonet_pipeline.histology.formats.reader import Reader, Samples
from cytonet_pipeline.histology.formats.tiff.contents import Contents, read_contents
from cytonet_pipeline.histology.formats.tiff.directory import FORMS, Directory, read_first_directory
from cytonet_pipeline.histology.formats.tiff.levels import COMPRESSIONS, TiffLevel, level_of
from cytonet_pipeline.histology.formats.tiff.metadata import (
    pixel_size_conflict,
    placeholder,
    require_labels,
    resolution,
    samples_of_page,
)
from cytonet_pipeline.histology.formats.tiff.page import is_without_photometric
from cytonet_pipeline.histology.formats.tiff.pages import Page
from cytonet_pipeline.histology.formats.tiff.planes import ColourPlanes
from cytonet_pipeline.store import digest_array, digest_bytes, digest_of

_ORIENTATION = 274
_TOP_LEFT = 1
_APERIO_MPP = re.compile(r"^Aperio.*\|\s*MPP\s*=\s*(\d{1,6}(\.\d{1,12})?)\s*(\||$)", re.DOTALL)
_TiffLevels = tuple[TiffLevel | ColourPlanes, ...]


@dataclass(frozen=True, eq=False)
class TiffReader(Reader):
    """TIFF, BigTIFF or OME-TIFF."""

    format = "TIFF"
    levels: _TiffLevels
    size_conflict: tuple[tuple[float, float] | None, tuple[float, float] | None]

    @classmethod
    def recognises(cls, path: Path, head: bytes) -> bool:
        """Whether a file begins as a TIFF does."""
        return head[:4] in FORMS

    @classmethod
    def open(cls, path: Path, pick: Pick = UNPICKED) -> Self:
        """See `Reader.open`."""
        if path.is_dir():
            raise ScanError(
                f"{path}: is a folder, not a TIFF.", to_fix="give a TIFF here, or name an OME-Zarr .ome.zarr"
            )
        try:
            first = read_first_directory(FileState.of(path))
            return cls._of(read_contents(first, pick), first.state)
        except ScanError:
            raise
        except OSError as error:
            raise ScanError(f"{path}: cannot be read ({error.strerror or error}).") from error
        except Exception as error:  # a damaged header can make tifffile raise anything
            raise ScanError(
                f"{path}: is no TIFF that can be read ({type(error).__name__}: {error!s:.120}).",
                to_fix="copy it again from its source, or leave it out with status withdrawn in a section table",
            ) from error

    @classmethod
    def _of(cls, contents: Contents, state: FileState) -> Self:
        levels = _levels(contents)
        main, ome = contents.planes[0], contents.ome
        described = (ome.pixel_um if ome else None) or _aperio_um(main.text)
        tags = resolution(main.page)
        doubts = [*contents.doubts, *_doubts(contents)]
        remark = ome.size_remark if ome else ""
        if remark and tags is not None:
            doubts.append(f"{remark}; its resolution tags count")
        return cls(
            state,
            levels,
            described or tags,
            (described, tags),
            doubts=tuple(doubts),
            reading=_read_otherwise(contents, levels),
            size_remark=remark,
            size_doubt="" if described else placeholder(main.page),
        )

    @property
    def page(self) -> TiffPage:
        """The page of the full resolution, or of its first colour."""
        return self.levels[0].parts[0].page

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
        samples = samples_of_page(self.page, str(self.path))
        return samples._replace(colour=True) if len(self.levels[0].parts) > 1 else samples

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
        return pixel_size_conflict(*self.size_conflict, tolerance)

    def digest(self) -> str:
        """Return the digest of size, IFD offsets, places and byte counts of all tiles, and the bytes of 64 tiles."""
        state = self.state
        # A file that is read otherwise than before is another scan.
        otherwise = {"read": self.reading} if self.reading else {}
        if is_small(state.size):
            whole = digest_bytes(read_bytes(state, 0, state.size))
            return digest_of({"bytes": state.size, "all": whole, **otherwise})
        tables = [
            (part.ifd_offset, part.height, part.width, *map(digest_array, part.table.all()))
            for level in self.levels
            for part in level.parts
        ]
        pieces = []
        for part in self.levels[0].parts:
            offsets, counts = (numbers.ravel() for numbers in part.table.all())
            for tile in sampled(offsets.size):
                start, count = max(0, int(offsets[tile])), max(0, int(counts[tile]))
                # Of one huge strip a piece at its beginning, its middle and its end.
                for begin in sorted({0, max(0, (count - SAMPLED_BYTES) // 2), max(0, count - SAMPLED_BYTES)}):
                    piece = read_bytes(state, start + begin, min(SAMPLED_BYTES, count - begin))
                    pieces.append(digest_bytes(piece))
        return digest_of({"bytes": state.size, "levels": tables, "sampled": pieces, **otherwise})


def _levels(contents: Contents) -> _TiffLevels:
    """Return the levels, the full resolution first: SubIFDs, or pages of the chain where there are none."""
    parts = [level_of(page.page, page.directory, 1) for page in contents.planes]
    if len(parts) > 1:
        return ColourPlanes.of(parts), *_reduced_colours(contents)
    main = contents.planes[0]
    in_chain = ((page.directory, page.page) for page in contents.may_be_levels)
    levels = _reduced(main, main.sub_pages()) or _reduced(main, in_chain)
    return (parts[0], *(levels[factor] for factor in sorted(levels)))


def _reduced(main: Page, pages: Iterable[tuple[Directory, TiffPage]]) -> dict[int, TiffLevel]:
    """Return the levels among pages, by their factors. A page that cannot be read or is something else is no level."""
    levels: dict[int, TiffLevel] = {}
    for directory, page in pages:
        try:
            factor = main.reduction(page)
            if factor and factor not in levels:
                levels[factor] = level_of(page, directory, factor)
        except Exception:  # a damaged page is no level; the full resolution can still be read
            continue
    return levels


def _reduced_colours(contents: Contents) -> list[ColourPlanes]:
    """Return the coarser levels of three colours: those that each of their pages has as a SubIFD."""
    by_factor: dict[int, list[TiffLevel]] = {}
    for plane in contents.planes:
        for factor, level in _reduced(plane, plane.sub_pages()).items():
            by_factor.setdefault(factor, []).append(level)
    complete = {f: parts for f, parts in by_factor.items() if len(parts) == len(contents.planes)}
    return [ColourPlanes.of(complete[factor]) for factor in sorted(complete)]


def _doubts(contents: Contents) -> list[str]:
    """Say what the file leaves open, and how it is read."""
    main, doubts = contents.planes[0], []
    orientation = main.directory.numbers(_ORIENTATION, 1).tolist()
    if orientation and orientation[0] not in (0, _TOP_LEFT):
        doubts.append(
            f"Orientation is {orientation[0]}, so other programs may show it turned or mirrored; its pixels are read "
            "as they are stored, and that is what matrices, mask and annotation must refer to"
        )
    if is_without_photometric(main.directory):
        doubts.append("PhotometricInterpretation is missing; 0 is taken for black, as libtiff does")
    return doubts


def _read_otherwise(contents: Contents, levels: _TiffLevels) -> tuple[str, ...]:
    """Return what is read otherwise than by releases up to 0.2.1."""
    main, full = contents.planes[0], levels[0]
    changes = [f"page {page.number}" for page in contents.planes if page.number or len(contents.planes) > 1]
    if main.page.extrasamples:
        changes.append("transparency")
    if is_without_photometric(main.directory):
        changes.append("black is zero")
    if any(_is_sparse(part) for level in levels for part in level.parts):
        changes.append("left out tiles")
    changes += [
        f"1/{level.factor} has {level.width} px"
        for level in levels[1:]
        if level.factor != round(full.width / level.width)
    ]
    changes += [f"1/{level.factor} lacks tiles" for level in levels[1:] if missing_only_in(level, full)]
    factors = {0, *(level.factor for level in levels)}
    changes += [f"page {p.number} is no level" for p in contents.others if main.reduction(p.page) not in factors]
    return tuple(changes)


def _is_sparse(level: TiffLevel) -> bool:
    """Whether tiles are left out in a way that was read as pixels or as damage."""
    offsets, counts = level.table.all()
    left_out = (offsets == 0) | (counts == 0)
    return bool((left_out & ((offsets != counts) | level.cut)).any())


def _aperio_um(text: str) -> tuple[float, float] | None:
    """Read the pixel size (µm) in the description of Aperio's scans; None if there is none."""
    match = _APERIO_MPP.match(text)
    size = float(match[1]) if match else 0.0
    return (size, size) if size > 0 else None
