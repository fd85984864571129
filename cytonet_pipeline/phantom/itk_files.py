"""Writing transforms as ITK's HDF5 files, such that the same content has the same bytes.

ITK's writer stamps every object with the current time and has no option to leave it out. The stamps stand in version 2
object headers (HDF5 File Format Specification 3.0, IV.A.1.b), each of which ends with a checksum of itself.
"""

import struct
from pathlib import Path

import numpy as np
import SimpleITK

_SIGNATURE = b"OHDR"
_TIMES_STORED, _PHASES_STORED = 0x20, 0x10
_MASK = 0xFFFFFFFF


def displacement_field(
    field_mm: np.ndarray, first_mm: np.ndarray, step_mm: float
) -> SimpleITK.DisplacementFieldTransform:
    """Return a displacement field (X, Y, Z, 3) in RAS mm, whose first point lies at `first_mm`, as a transform of ITK.

    ITK uses LPS: x and y change sign. The direction matrix keeps the grid's own order of axes.
    """
    flip = np.array([-1.0, -1.0, 1.0])
    image = SimpleITK.GetImageFromArray((field_mm * flip).transpose(2, 1, 0, 3), isVector=True)
    image.SetSpacing([step_mm] * 3)
    image.SetOrigin((first_mm * flip).tolist())
    image.SetDirection(np.diag(flip).ravel().tolist())
    return SimpleITK.DisplacementFieldTransform(image)


def write_transform(transform: SimpleITK.Transform, path: Path) -> None:
    """Write a transform so that the same transform gives the same bytes."""
    SimpleITK.WriteTransform(transform, str(path))
    without_times(path)


def without_times(path: Path) -> None:
    """Set all times in the object headers of an HDF5 file to zero, in place."""
    content = bytearray(path.read_bytes())
    at = content.find(_SIGNATURE)
    while at >= 0:
        _clear_header(content, at)
        at = content.find(_SIGNATURE, at + 1)
    path.write_bytes(content)


def _clear_header(content: bytearray, start: int) -> None:
    version, flags = content[start + 4], content[start + 5]
    if version != 2 or not flags & _TIMES_STORED:
        return
    size_at = start + 6 + 16 + (4 if flags & _PHASES_STORED else 0)
    size_bytes = 1 << (flags & 3)
    end = size_at + size_bytes + int.from_bytes(content[size_at : size_at + size_bytes], "little")
    stored = bytes(content[end : end + 4])
    # The four letters may also stand in the data by chance: only a header has the right checksum.
    if stored != struct.pack("<I", lookup3(content[start:end])):
        return
    content[start + 6 : start + 22] = bytes(16)
    content[end : end + 4] = struct.pack("<I", lookup3(content[start:end]))


def lookup3(data: bytes | bytearray) -> int:
    """Bob Jenkins' hash `lookup3` (hashlittle, burtleburtle.net/bob/c/lookup3.c), HDF5's checksum of metadata."""
    a = b = c = (0xDEADBEEF + len(data)) & _MASK
    if not data:
        return c
    padded = bytes(data) + bytes(-len(data) % 12)
    *blocks, last = struct.iter_unpack("<3I", padded)
    for x, y, z in blocks:
        a, b, c = _mixed((a + x) & _MASK, (b + y) & _MASK, (c + z) & _MASK)
    a, b, c = ((part + word) & _MASK for part, word in zip((a, b, c), last, strict=True))
    for turn in (14, 11, 25, 16, 4, 14, 24):
        # Each step mixes one word into the next: c from b, a from c, b from a, and so on.
        c = ((c ^ b) - _turned(b, turn)) & _MASK
        a, b, c = b, c, a
    return b


def _mixed(a: int, b: int, c: int) -> tuple[int, int, int]:
    for turn in (4, 6, 8, 16, 19, 4):
        a = ((a - c) & _MASK) ^ _turned(c, turn)
        c = (c + b) & _MASK
        a, b, c = b, c, a
    return a, b, c


def _turned(word: int, by: int) -> int:
    return (word << by | word >> (32 - by)) & _MASK
