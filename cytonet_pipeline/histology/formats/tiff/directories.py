"""Directories of a TIFF (IFDs), read without believing them: which tags they have, and where the values of each lie.

What a tag announces is allocated only after it is known to lie in the file. Tables of tiles stay numbers of numpy and
beyond 2 MiB in the file: a scan of 100,000 × 80,000 px has 120,000 tiles of 256 px, and thousands of scans are open.
"""

import struct
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.formats.files import FileState, read_bytes

# Sizes in bytes of the kinds of values: byte, ASCII, short, long, rational, … long8.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WHOLE_NUMBERS = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
_MOST_ENTRIES = 4096
_HELD_NUMBERS = 1 << 17


class Form(NamedTuple):
    """How a TIFF writes numbers: `<` or `>`, and whether it is a BigTIFF."""

    byteorder: str
    big: bool

    @property
    def number(self) -> str:
        """Format of an offset."""
        return f"{self.byteorder}{'Q' if self.big else 'I'}"

    @property
    def head(self) -> str:
        """Format of the number of entries of a directory."""
        return f"{self.byteorder}{'Q' if self.big else 'H'}"

    @property
    def entry(self) -> str:
        """Format of an entry: code, kind, count, and the value itself or its offset."""
        return f"{self.byteorder}{'HHQ8s' if self.big else 'HHI4s'}"


class Entry(NamedTuple):
    """A tag: `number` values of a kind, from byte `at` of the file."""

    kind: int
    number: int
    at: int

    @property
    def bytes(self) -> int:
        """Size of its values."""
        return self.number * _SIZES[self.kind]


@dataclass(frozen=True, eq=False)
class Directory:
    """A directory at byte `offset`; `next_offset` is 0 at the end of the chain."""

    state: FileState
    form: Form
    offset: int
    entries: dict[int, Entry]
    next_offset: int

    def raw(self, code: int, most_bytes: int) -> bytes | None:
        """Values of a tag as they stand in the file; None without it, or with more than `most_bytes` of them."""
        entry = self.entries.get(code)
        if entry is None or entry.bytes > most_bytes:
            return None
        return read_bytes(self.state, entry.at, entry.bytes)

    def numbers(self, code: int, most: int) -> np.ndarray:
        """Values of a tag of whole numbers, the first `most`; none without it or if it has others."""
        return Numbers(self.state, self.form, self.entries.get(code), most).part(0, most)


class Numbers:
    """The first `most` whole numbers of a tag, held or left in the file.

    Parameters
    ----------
    entry : Entry or None
        None has no numbers.
    """

    def __init__(self, state: FileState, form: Form, entry: Entry | None, most: int) -> None:
        self._state = state
        sound = entry is not None and entry.kind in _WHOLE_NUMBERS
        self._entry = entry if sound else None
        self._dtype = np.dtype(form.byteorder + _WHOLE_NUMBERS[entry.kind]) if sound and entry else np.dtype("u1")
        self._count = min(most, entry.number) if sound and entry else 0

    def __len__(self) -> int:
        return self._count

    @cached_property
    def _held(self) -> np.ndarray | None:
        return self._read(0, self._count) if self._count <= _HELD_NUMBERS else None

    def part(self, begin: int, end: int) -> np.ndarray:
        """Numbers `begin` to `end` as int64."""
        end = min(end, self._count)
        return self._read(begin, end) if self._held is None else self._held[begin:end]

    def _read(self, begin: int, end: int) -> np.ndarray:
        if self._entry is None or end <= begin:
            return np.empty(0, np.int64)
        size = self._dtype.itemsize
        data = read_bytes(self._state, self._entry.at + begin * size, (end - begin) * size)
        return np.frombuffer(data, self._dtype, count=len(data) // size).astype(np.int64)


def read_form(state: FileState) -> tuple[Form, int]:
    """How a TIFF writes numbers, and the offset of its first directory.

    Raises
    ------
    ScanError
        It is no TIFF.
    """
    head = read_bytes(state, 0, 16)
    byteorder = {b"II": "<", b"MM": ">"}.get(head[:2])
    if byteorder is not None and len(head) >= 8:
        (version,) = struct.unpack(f"{byteorder}H", head[2:4])
        if version == 42:
            return Form(byteorder, False), struct.unpack(f"{byteorder}I", head[4:8])[0]
        if version == 43 and len(head) == 16 and struct.unpack(f"{byteorder}HH", head[4:8]) == (8, 0):
            return Form(byteorder, True), struct.unpack(f"{byteorder}Q", head[8:16])[0]
    raise ScanError(
        f"{state.path}: is no TIFF that can be read (it begins with {head[:4]!r}).",
        to_fix="copy it again from its source, or leave it out with status withdrawn in a section table",
    )


def read_directory(state: FileState, form: Form, offset: int) -> Directory:
    """Read the entries of a directory. Of tags that occur twice the first counts; those beyond the file are left out.

    Raises
    ------
    ScanError
        There is no directory at this place.
    """
    head_bytes, entry_bytes, number_bytes = (struct.calcsize(f) for f in (form.head, form.entry, form.number))
    head = read_bytes(state, offset, head_bytes)
    number = struct.unpack(form.head, head)[0] if len(head) == head_bytes else 0
    first = offset + head_bytes
    data = read_bytes(state, first, number * entry_bytes + number_bytes) if number <= _MOST_ENTRIES else b""
    if number == 0 or len(data) < number * entry_bytes:
        raise ScanError(
            f"{state.path}: is no TIFF that can be read (no directory at byte {offset}).",
            to_fix="copy it again from its source, or leave it out with status withdrawn in a section table",
        )
    entries: dict[int, Entry] = {}
    for index, (code, kind, count, value) in enumerate(struct.iter_unpack(form.entry, data[: number * entry_bytes])):
        size = _SIZES.get(kind, 0) * count
        at = first + (index + 1) * entry_bytes - number_bytes
        if size > number_bytes:
            (at,) = struct.unpack(form.number, value)
        if code not in entries and size > 0 and at >= 8 and at + size <= state.size:
            entries[code] = Entry(kind, count, at)
    after = data[number * entry_bytes :]
    return Directory(
        state, form, offset, entries, struct.unpack(form.number, after)[0] if len(after) == number_bytes else 0
    )
