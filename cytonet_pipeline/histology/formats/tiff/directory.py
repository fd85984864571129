"""Directories of a TIFF (IFDs), read without trusting them: which tags they have, and where the values of each lie.

Nothing that a tag announces is allocated before it is known to lie in the file. Tables of tiles stay NumPy arrays, and
beyond 2 MiB they stay in the file: a scan of 100,000 × 80,000 px has 120,000 tiles of 256 px, thousands of scans are
open at a time, and `tifffile` would hold each number as an object of 32 bytes.
"""

import struct
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from tifffile.tifffile import TIFF, TiffFormat

from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.formats.files import FileState, read_bytes

# The first four bytes of a TIFF.
FORMS = {b"II*\0": TIFF.CLASSIC_LE, b"MM\0*": TIFF.CLASSIC_BE, b"II+\0": TIFF.BIG_LE, b"MM\0+": TIFF.BIG_BE}
# Sizes in bytes of the kinds of values: byte, ASCII, short, long, rational, … long8.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WHOLE_NUMBERS = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
_MOST_ENTRIES = 4096
_HELD_NUMBERS = 1 << 17
_COPY_AGAIN = "copy it again from its source, or leave it out with status withdrawn in a section table"


class Entry(NamedTuple):
    """A tag: `number` values of a kind, from byte `at` of the file."""

    kind: int
    number: int
    at: int

    @property
    def bytes(self) -> int:
        """Size of its values."""
        return self.number * _SIZES[self.kind]

    @property
    def is_whole(self) -> bool:
        """Whether its values are unsigned whole numbers."""
        return self.kind in _WHOLE_NUMBERS


@dataclass(frozen=True, eq=False)
class Directory:
    """A directory at byte `offset`; `next_offset` is 0 at the end of the chain."""

    state: FileState
    form: TiffFormat
    offset: int
    entries: dict[int, Entry]
    next_offset: int

    def numbers(self, code: int, most: int) -> np.ndarray:
        """Read the values of a tag of whole numbers, the first `most`; none if it is absent or of another kind."""
        return Numbers(self.state, self.form, self.entries.get(code), most).part(0, most)

    def text(self, code: int, most: int) -> str:
        """Read a tag of text, the first `most` bytes up to a zero; empty if it is absent."""
        entry = self.entries.get(code)
        if entry is None or _SIZES[entry.kind] != 1:
            return ""
        data = read_bytes(self.state, entry.at, min(most, entry.number))
        return data.partition(b"\0")[0].decode("utf-8", "replace")


class Numbers:
    """The first `most` whole numbers of a tag, held in memory or left in the file.

    Parameters
    ----------
    entry : Entry or None
        None has no numbers.
    """

    def __init__(self, state: FileState, form: TiffFormat, entry: Entry | None, most: int) -> None:
        self._state = state
        self._entry = entry if entry is not None and entry.is_whole else None
        self._dtype = np.dtype(form.byteorder + _WHOLE_NUMBERS[self._entry.kind]) if self._entry else np.dtype("u1")
        self._count = min(most, self._entry.number) if self._entry else 0

    def __len__(self) -> int:
        return self._count

    @cached_property
    def _held(self) -> np.ndarray | None:
        return self._read(0, self._count) if self._count <= _HELD_NUMBERS else None

    def part(self, begin: int, end: int) -> np.ndarray:
        """Return numbers `begin` to `end` as int64."""
        end = min(end, self._count)
        return self._read(begin, end) if self._held is None else self._held[begin:end]

    def _read(self, begin: int, end: int) -> np.ndarray:
        if self._entry is None or end <= begin:
            return np.empty(0, np.int64)
        size = self._dtype.itemsize
        data = read_bytes(self._state, self._entry.at + begin * size, (end - begin) * size)
        return np.frombuffer(data, self._dtype, count=len(data) // size).astype(np.int64)


def read_first_directory(state: FileState) -> Directory:
    """Read the directory to which the head of a TIFF points.

    Raises
    ------
    ScanError
        The file is no TIFF.
    """
    head = read_bytes(state, 0, 16)
    form = FORMS.get(head[:4])
    if form is not None and len(head) >= 2 * form.offsetsize and (form.offsetsize == 4 or _is_bigtiff(head, form)):
        (offset,) = struct.unpack_from(form.offsetformat, head, form.offsetsize)
        return read_directory(state, form, offset)
    raise ScanError(
        f"{state.path}: is no TIFF that can be read (it begins with {head[:4]!r}).",
        to_fix=_COPY_AGAIN,
    )


def _is_bigtiff(head: bytes, form: TiffFormat) -> bool:
    return struct.unpack_from(f"{form.byteorder}HH", head, 4) == (8, 0)


def read_directory(state: FileState, form: TiffFormat, offset: int) -> Directory:
    """Read the entries of a directory. Of tags that occur twice the first counts; those beyond the file are left out.

    Raises
    ------
    ScanError
        There is no directory at this place.
    """
    head = read_bytes(state, offset, form.tagnosize)
    number = struct.unpack(form.tagnoformat, head)[0] if len(head) == form.tagnosize else 0
    first = offset + form.tagnosize
    length = number * form.tagsize
    data = read_bytes(state, first, length + form.offsetsize) if number <= _MOST_ENTRIES else b""
    if number == 0 or len(data) < length:
        raise ScanError(
            f"{state.path}: is no TIFF that can be read (no directory at byte {offset}).", to_fix=_COPY_AGAIN
        )
    entries: dict[int, Entry] = {}
    for index, (code, kind, count, value) in enumerate(struct.iter_unpack(form.tagheaderformat, data[:length])):
        size = _SIZES.get(kind, 0) * count
        at = first + (index + 1) * form.tagsize - form.offsetsize
        if size > form.offsetsize:
            (at,) = struct.unpack(form.offsetformat, value)
        if code not in entries and size > 0 and at >= 8 and at + size <= state.size:
            entries[code] = Entry(kind, count, at)
    after = data[length:]
    next_offset = struct.unpack(form.offsetformat, after)[0] if len(after) == form.offsetsize else 0
    return Directory(state, form, offset, entries, next_offset)
