"""The pages of a TIFF, in the order of its chain: what each says that it is.

A file of a slide scanner also holds a label, a macro photograph and a thumbnail, anywhere in the chain. NewSubfileType
tells reduced copies and masks from images; Aperio and others tell the rest in the description.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tifffile import TiffPage

from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.formats.choice import Picture, is_accessory_by_title
from cytonet_pipeline.histology.formats.levels import whole_factor
from cytonet_pipeline.histology.formats.tiff.directory import Directory, read_directory
from cytonet_pipeline.histology.formats.tiff.page import page_of

# A pyramid of 100,000 px in factors of two has at most 17 levels.
MOST_PAGES = 64
_SUBFILE_TYPE, _DESCRIPTION, _PAGE_NAME, _XMP, _SUBIFDS = 254, 270, 285, 700, 330
# Bits of NewSubfileType: a reduced copy, a mask of transparency, and one that Aperio sets on macro photographs.
_REDUCED, _MASK, _MACRO = 1, 4, 8
_TEXT_BYTES = 1 << 12
_XMP_BYTES = 1 << 16
_APERIO_THUMBNAIL = re.compile(r"^Aperio[^\n]*\n[^|;\n]*->\s*\d+x\d+\s*-\s")
_APERIO_ACCESSORY = re.compile(r"^Aperio[^\n]*\n\s*(label|macro)\b")
_LONGEST_TITLE = 80


@dataclass(frozen=True, eq=False)
class Page:
    """A page of the chain, by its number from 0; `text` is the beginning of its description."""

    number: int
    directory: Directory
    page: TiffPage
    text: str
    title: str

    @classmethod
    def of(cls, number: int, directory: Directory) -> "Page":
        """Interpret a directory.

        Raises
        ------
        ScanError
            It does not describe an image; damage can make `tifffile` raise anything else.
        """
        text = directory.text(_DESCRIPTION, _TEXT_BYTES)
        title = directory.text(_PAGE_NAME, _LONGEST_TITLE).strip()
        if not title and 0 < len(text) <= _LONGEST_TITLE and "\n" not in text and not text.startswith(("<", "{")):
            title = text.strip()
        return cls(number, directory, page_of(directory, first=number == 0), text, title)

    @property
    def subfile_type(self) -> int:
        """NewSubfileType; 0 without it."""
        kinds = self.directory.numbers(_SUBFILE_TYPE, 1).tolist()
        return kinds[0] if kinds else 0

    @property
    def is_reduced(self) -> bool:
        """Whether it says that it is a reduced copy."""
        return bool(self.subfile_type & _REDUCED)

    @property
    def area_px(self) -> int:
        """Number of pixels."""
        return int(self.page.imagelength) * int(self.page.imagewidth)

    def is_accessory(self, largest_px: int, title: str = "") -> bool:
        """Whether it says that it is a label, a macro photograph, a thumbnail or a mask.

        Parameters
        ----------
        largest_px : int
            Pixels of the largest picture in the file: by its title alone a picture is an accessory only if it is much
            smaller.
        title : str, optional
            What OME metadata call it.
        """
        if self.subfile_type & (_MASK | _MACRO):
            return True
        if _APERIO_THUMBNAIL.match(self.text) or _APERIO_ACCESSORY.match(self.text):
            return True
        return is_accessory_by_title(title or self.title, self.area_px, largest_px)

    def picture(self, *, accessory: bool) -> Picture:
        """Describe it as one of several."""
        page = self.page
        return Picture(f"page {self.number}", page.imagelength, page.imagewidth, self.title, None, accessory)

    def reduction(self, other: TiffPage) -> int:
        """Return the whole number by which another page is this one reduced; 0 if it is not."""
        kind = ("dtype", "bitspersample", "samplesperpixel", "photometric")
        page = self.page
        if any(getattr(page, name) != getattr(other, name) for name in kind):
            return 0
        return whole_factor((page.imagelength, page.imagewidth), (other.imagelength, other.imagewidth))

    def sub_pages(self) -> Iterator[tuple[Directory, TiffPage]]:
        """Yield its SubIFDs, each place once; one that cannot be read is left out."""
        first, seen = self.directory, {self.directory.offset}
        for offset in first.numbers(_SUBIFDS, MOST_PAGES).tolist():
            if offset not in seen:
                seen.add(offset)
                try:
                    directory = read_directory(first.state, first.form, offset)
                    yield directory, page_of(directory, first=False)
                except Exception:  # a damaged page is no level; the full resolution can still be read
                    continue


def read_pages(first: Directory) -> tuple[list[Page], list[str]]:
    """Read the pages of the chain, and say which cannot be read. Ends at a loop, at damage, or after many pages.

    Raises
    ------
    ScanError
        The first page cannot be read, or the file is of a kind whose tiles do not join.
    """
    _refuse_overlapping(first)
    pages, doubts = [Page.of(0, first)], []
    for number, directory in enumerate(_chain(first), start=1):
        try:
            pages.append(Page.of(number, directory))
        except Exception:  # a damaged page is not the scan; another one can still be read
            doubts.append(f"page {number} cannot be read and is passed over")
    return pages, doubts


def _chain(directory: Directory) -> Iterator[Directory]:
    state, form, seen = directory.state, directory.form, {directory.offset}
    for _ in range(MOST_PAGES):
        offset = directory.next_offset
        if offset in seen or not 0 < offset < state.size:
            return
        seen.add(offset)
        try:
            directory = read_directory(state, form, offset)
        except ScanError:
            return
        yield directory


def _refuse_overlapping(first: Directory) -> None:
    """Refuse Ventana's files: their tiles overlap, so that pixels would come to lie in the wrong place."""
    if "<iScan" in first.text(_XMP, _XMP_BYTES):
        raise ScanError(
            f"{first.state.path}: is a Ventana (BIF) file, whose tiles overlap; it is not read.",
            to_fix="export the scan as OME-TIFF, for instance with QuPath or Bio-Formats",
        )
