"""One directory of a TIFF as `tifffile` understands it, without letting `tifffile` near the file.

The tags that say how pixels are stored are copied into a TIFF of their own in memory, a few kilobytes, and that one is
parsed. So a damaged or hostile file cannot make the parser read or allocate anything, and a page costs no more than its
tags. Where tiles or strips lie is `ifd`'s business.
"""

import io
import struct

from tifffile import TiffFile, TiffPage

from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.formats.files import read_bytes
from cytonet_pipeline.histology.formats.tiff.directories import Directory

# NewSubfileType, size, bits, compression, photometric, fill order, samples, resolution, planes, predictor, tiles,
# extra samples, sample format, JPEG tables, chroma subsampling, depth.
_COPIED = (254, 256, 257, 258, 259, 262, 266, 277, 282, 283, 284, 296, 317, 322, 323, 338, 339, 347, 530, 32997, 32998)
_DESCRIPTION, _ROWS_PER_STRIP = 270, 278
_OFFSETS, _COUNTS = (324, 273), (325, 279)
_MOST_BYTES = 1 << 20
_MOST_DESCRIPTION_BYTES = 16 << 20
_BYTES, _SHORT, _LONG, _LONG8 = 1, 3, 4, 16
_JPEG_HEAD_BYTES = 16


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
    tiff = io.BytesIO(_tiff_of(directory, with_description=first))
    # The switches keep tifffile from looking for formats of vendors.
    page = TiffFile(tiff, _multifile=False, is_lsm=False, is_scanimage=False, is_ndpi=False).pages.first
    if not isinstance(page, TiffPage) or not page.shaped[2]:
        raise ScanError(f"{directory.state.path}: has a directory that describes no image.")
    if not page.is_tiled:
        page.rowsperstrip = _rows_per_strip(directory, int(page.imagelength))
    page.init_decode()
    return page


def chunk_entries(directory: Directory) -> tuple[int, int]:
    """Codes of the tags with the offsets and the byte counts of tiles or strips: those that `tifffile` would take."""
    return tuple(next((c for c in codes if c in directory.entries), codes[0]) for codes in (_OFFSETS, _COUNTS))  # type: ignore[return-value]


def _tiff_of(directory: Directory, *, with_description: bool) -> bytes:
    """A TIFF of one directory: the copied tags, and one strip or tile that holds the first bytes of the real one."""
    form = directory.form
    tags: dict[int, tuple[int, int, bytes]] = {}
    for code in (*_COPIED, _DESCRIPTION) if with_description else _COPIED:
        values = directory.raw(code, _MOST_DESCRIPTION_BYTES if code == _DESCRIPTION else _MOST_BYTES)
        if values is not None:
            tags[code] = (*directory.entries[code][:2], values)
    kind, pattern = (_LONG8, "Q") if form.big else (_LONG, "I")
    planes = _planes(directory)
    if 257 in tags and 322 not in tags:
        # One strip, so that one offset a plane fits to the image; the real height of strips is put in afterwards.
        tags[_ROWS_PER_STRIP] = (tags[257][0], 1, tags[257][2][: len(tags[257][2]) // max(1, tags[257][1])])
    head = _first_bytes(directory)
    offsets, counts = (_OFFSETS[0], _COUNTS[0]) if 322 in tags else (_OFFSETS[1], _COUNTS[1])
    start = 16 if form.big else 8
    where = start if head else 0
    tags[offsets] = (kind, planes, struct.pack(f"{form.byteorder}{planes}{pattern}", *[where] * planes))
    tags[counts] = (kind, planes, struct.pack(f"{form.byteorder}{planes}{pattern}", *[len(head)] * planes))
    return _written(directory, tags, head.ljust(_JPEG_HEAD_BYTES, b"\0"))


def _written(directory: Directory, tags: dict[int, tuple[int, int, bytes]], head: bytes) -> bytes:
    form = directory.form
    number_bytes = struct.calcsize(form.number)
    mark = b"II" if form.byteorder == "<" else b"MM"
    start = 16 if form.big else 8
    version = struct.pack(f"{form.byteorder}HHH", 43, 8, 0) if form.big else struct.pack(f"{form.byteorder}H", 42)
    begin = start + len(head)
    values_at = begin + struct.calcsize(form.head) + len(tags) * struct.calcsize(form.entry) + number_bytes
    entries, values = [], b""
    for code in sorted(tags):
        kind, count, data = tags[code]
        inline = data.ljust(number_bytes, b"\0")
        if len(data) > number_bytes:
            inline = struct.pack(form.number, values_at + len(values))
            values += data
        entries.append(struct.pack(form.entry, code, kind, count, inline))
    head_of_directory = struct.pack(form.head, len(tags))
    begin_of_file = [mark, version, struct.pack(form.number, begin), head]
    return b"".join([*begin_of_file, head_of_directory, *entries, bytes(number_bytes), values])


def _first_bytes(directory: Directory) -> bytes:
    """The beginning of the first tile: whether it is a JFIF decides how its colours are meant."""
    offset, count = (directory.numbers(code, 1) for code in chunk_entries(directory))
    if offset.size == 0 or count.size == 0 or count[0] <= 0 or offset[0] <= 0:
        return b""
    return read_bytes(directory.state, int(offset[0]), min(int(count[0]), _JPEG_HEAD_BYTES))


def _planes(directory: Directory) -> int:
    """How many planes are stored one after the other; more than a few are refused later."""
    separate = directory.numbers(284, 1).tolist() == [2]
    samples = directory.numbers(277, 1).tolist()
    return min(max(1, samples[0]), 1 << 16) if separate and samples else 1


def _rows_per_strip(directory: Directory, height: int) -> int:
    rows = directory.numbers(_ROWS_PER_STRIP, 2).tolist()
    return min(rows[0], height) if len(rows) == 1 else height
