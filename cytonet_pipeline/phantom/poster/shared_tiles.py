"""Writing tiled BigTIFF pyramids in which many tiles are the same bytes: huge scans in small files.

A TIFF says where each tile lies, and two tiles may lie at the same place. So a scan of eight gigapixels that is made of
a few dozen different tiles takes some hundred kilobytes. Readers need not know.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_ZSTD = 50000
_SHORT, _LONG, _LONG8, _RATIONAL = 3, 4, 16, 5
_CODES = {_SHORT: "H", _LONG: "I", _LONG8: "Q"}
_HEADER_BYTES = 16


@dataclass(frozen=True, eq=False)
class TiledLevel:
    """One level of a pyramid of grey values of 8 bit.

    Attributes
    ----------
    width_px, height_px, tile_px : int
        Size of the level and of its square tiles; `tile_px` is a multiple of 16.
    grid : (rows, columns) int array
        Which of `tiles` stands at each place.
    tiles : sequence of bytes
        Tiles compressed with Zstandard, at most 64 KiB each.
    """

    width_px: int
    height_px: int
    tile_px: int
    grid: np.ndarray
    tiles: Sequence[bytes]


def write_shared_tiles(path: Path, levels: Sequence[TiledLevel], pixel_um: float) -> None:
    """Write a BigTIFF whose coarser levels are SubIFDs of the first page.

    Parameters
    ----------
    levels : sequence of TiledLevel
        The full resolution first.
    pixel_um : float
        Edge of a full-resolution pixel.
    """
    body = _Body()
    full = levels[0].width_px
    pages = [_page(body, level, pixel_um * full / level.width_px, level.width_px < full) for level in levels]
    below = [body.append(_directory(body, page)) for page in pages[1:]]
    if below:
        pages[0][330] = (_LONG8, below)
    first = body.append(_directory(body, pages[0]))
    path.write_bytes(struct.pack("<2sHHHQ", b"II", 43, 8, 0, first) + body.content())


class _Body:
    """What follows the header of a file; equal pieces of tiles are kept once."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._length = _HEADER_BYTES
        self._placed: dict[bytes, int] = {}

    def append(self, piece: bytes) -> int:
        """Add a piece at the next even offset (as TIFF requires) and return the offset."""
        if self._length % 2:
            self._pieces.append(b"\0")
            self._length += 1
        start = self._length
        self._pieces.append(piece)
        self._length += len(piece)
        return start

    def append_once(self, tile: bytes) -> int:
        """Return where a tile lies; it is added if it is new."""
        if tile not in self._placed:
            self._placed[tile] = self.append(tile)
        return self._placed[tile]

    def content(self) -> bytes:
        return b"".join(self._pieces)


_Tags = dict[int, tuple[int, list[int]]]


def _page(body: _Body, level: TiledLevel, pixel_um: float, reduced: bool) -> _Tags:
    """Return the tags of one level, after adding its tiles to the file."""
    used = np.unique(level.grid)
    offsets, counts = np.zeros(used[-1] + 1, np.uint32), np.zeros(used[-1] + 1, np.uint16)
    for number in used.tolist():
        offsets[number], counts[number] = body.append_once(level.tiles[number]), len(level.tiles[number])
    per_cm = (round(1e7 / pixel_um), 1000)
    return {
        254: (_LONG, [int(reduced)]),
        256: (_LONG, [level.width_px]),
        257: (_LONG, [level.height_px]),
        258: (_SHORT, [8]),
        259: (_SHORT, [_ZSTD]),
        262: (_SHORT, [1]),  # 0 is black
        277: (_SHORT, [1]),
        282: (_RATIONAL, [*per_cm]),
        283: (_RATIONAL, [*per_cm]),
        296: (_SHORT, [3]),  # centimetres
        322: (_LONG, [level.tile_px]),
        323: (_LONG, [level.tile_px]),
        # 32 and 16 bit are enough here, and half of what BigTIFF would take by default.
        324: (_LONG, offsets[level.grid.ravel()].tolist()),
        325: (_SHORT, counts[level.grid.ravel()].tolist()),
    }


def _directory(body: _Body, tags: _Tags) -> bytes:
    """Return the bytes of an IFD; values that do not fit into it are appended to the file first."""
    entries = [struct.pack("<Q", len(tags))]
    for tag, (kind, values) in sorted(tags.items()):
        code, count = ("I", len(values) // 2) if kind == _RATIONAL else (_CODES[kind], len(values))
        packed = np.array(values, dtype=f"<{code.replace('Q', 'u8').replace('I', 'u4').replace('H', 'u2')}").tobytes()
        inline = packed.ljust(8, b"\0") if len(packed) <= 8 else struct.pack("<Q", body.append(packed))
        entries.append(struct.pack("<HHQ", tag, kind, count) + inline)
    return b"".join(entries) + struct.pack("<Q", 0)
