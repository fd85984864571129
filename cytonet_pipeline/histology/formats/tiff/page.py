"""One directory of a TIFF as `tifffile` understands it.

`tifffile` parses the file itself, but sees in the directory only the tags that say how pixels are stored, each of a
limited size. On the bare file it reads every tag that a directory lists, as often as it is listed: a file of 8 MB that
names its offsets 2000 times takes it more than 5 GiB. Where tiles or strips lie is `directory`'s business.
"""

import io
import struct
from typing import IO, cast

from tifffile import TiffFile, TiffPage

from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.formats.files import read_bytes
from cytonet_pipeline.histology.formats.tiff.directory import Directory, Entry

# NewSubfileType, size, bits, compression, photometric, fill order, samples, resolution, planes, predictor, tiles,
# extra samples, sample format, JPEG tables, chroma subsampling, depth. Without rows per strip `tifffile` takes all rows
# for one strip and asks for no more than one offset per plane.
_SHOWN = (254, 256, 257, 258, 259, 262, 266, 277, 282, 283, 284, 296, 317, 322, 323, 338, 339, 347, 530, 32997, 32998)
_LENGTH, _PHOTOMETRIC, _DESCRIPTION, _ROWS_PER_STRIP = 257, 262, 270, 278
_MIN_IS_BLACK, _RGB = 1, 2
_OFFSETS, _COUNTS = (324, 273), (325, 279)
_MOST_BYTES = 1 << 20
_MOST_DESCRIPTION_BYTES = 16 << 20
_MOST_PLANES = 1 << 16


class _Filtered(io.RawIOBase):
    """A TIFF, read-only, whose first directory is `directory` with fewer tags."""

    def __init__(self, directory: Directory, entries: dict[int, Entry]) -> None:
        form, self._state, self._at = directory.form, directory.state, 0
        packed = [_packed(directory, code, entries[code]) for code in sorted(entries)]
        shown = struct.pack(form.tagnoformat, len(packed)) + b"".join(packed) + bytes(form.offsetsize)
        first = struct.pack(form.offsetformat, directory.offset)
        self._replaced = ((directory.offset, shown), (form.offsetsize, first))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place in the file."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._state.size}[whence]
        return self._at

    def tell(self) -> int:
        """Return the place in the file."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Read bytes of the file, or of what replaces them."""
        data = bytearray(read_bytes(self._state, self._at, self._state.size if size < 0 else size))
        for begin, replacement in self._replaced:
            first, last = max(begin, self._at), min(begin + len(replacement), self._at + len(data))
            if first < last:
                data[first - self._at : last - self._at] = replacement[first - begin : last - begin]
        self._at += len(data)
        return bytes(data)


def page_of(directory: Directory, *, first: bool) -> TiffPage:
    """Let `tifffile` interpret a directory.

    Parameters
    ----------
    first : bool
        Whether it is the first page, whose description may hold OME metadata.

    Raises
    ------
    ScanError
        The directory does not describe an image.
    """
    # Without a height `tifffile` would look for one in the pixels.
    if not directory.numbers(_LENGTH, 1).any():
        raise ScanError(f"{directory.state.path}: has a directory that describes no image.")
    filtered = _Filtered(directory, _shown_entries(directory, with_description=first))
    # The switches keep tifffile from looking for formats of vendors.
    page = TiffFile(
        cast(IO[bytes], filtered), _multifile=False, is_lsm=False, is_scanimage=False, is_ndpi=False
    ).pages.first
    if not isinstance(page, TiffPage):
        raise ScanError(f"{directory.state.path}: has a directory that describes no image.")
    if not page.is_tiled:
        page.rowsperstrip = _rows_per_strip(directory, int(page.imagelength))
    if is_without_photometric(directory):
        # As libtiff does; `tifffile` takes white for zero.
        page.photometric = _RGB if page.samplesperpixel >= 3 else _MIN_IS_BLACK
    page.init_decode()
    return page


def is_without_photometric(directory: Directory) -> bool:
    """Whether a directory does not say what 0 stands for."""
    return _PHOTOMETRIC not in directory.entries


def chunk_entries(directory: Directory) -> tuple[int, int]:
    """Return the codes of the tags with the offsets and the byte counts of chunks: those that `tifffile` would take."""
    return tuple(next((c for c in codes if c in directory.entries), codes[0]) for codes in (_OFFSETS, _COUNTS))  # type: ignore[return-value]


def _shown_entries(directory: Directory, *, with_description: bool) -> dict[int, Entry]:
    """Select the tags that `tifffile` may see, and of the places of chunks one per plane."""
    limits = dict.fromkeys(_SHOWN, _MOST_BYTES) | ({_DESCRIPTION: _MOST_DESCRIPTION_BYTES} if with_description else {})
    shown = {code: e for code, e in directory.entries.items() if e.bytes <= limits.get(code, -1)}
    for code in chunk_entries(directory):
        entry = directory.entries.get(code)
        if entry is not None and entry.is_whole:
            shown[code] = entry._replace(number=min(entry.number, _planes(directory)))
    return shown


def _packed(directory: Directory, code: int, entry: Entry) -> bytes:
    """Write an entry as a directory has it: values that are small stand in it, of others their place."""
    form = directory.form
    if entry.bytes <= form.offsetsize:
        value = read_bytes(directory.state, entry.at, entry.bytes).ljust(form.offsetsize, b"\0")
    else:
        value = struct.pack(form.offsetformat, entry.at)
    return struct.pack(form.tagheaderformat, code, entry.kind, entry.number, value)


def _planes(directory: Directory) -> int:
    """Return how many planes are stored one after the other; more than a few are refused later."""
    separate = directory.numbers(284, 1).tolist() == [2]
    samples = directory.numbers(277, 1).tolist()
    return min(max(1, samples[0]), _MOST_PLANES) if separate and samples else 1


def _rows_per_strip(directory: Directory, height: int) -> int:
    rows = directory.numbers(_ROWS_PER_STRIP, 2).tolist()
    return min(rows[0], height) if len(rows) == 1 else height
