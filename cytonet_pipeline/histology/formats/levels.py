"""One level of a scan's pyramid: a grid of chunks (tiles, strips, or the chunks of a Zarr array), and their pixels.

Common to all file formats. A chunk is fetched as it is stored, then decoded: neighbours are fetched together, and the
fetched bytes are valid until the same thread fetches again.
"""

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cytonet_pipeline.errors import ScanError

# Decoded bytes of one chunk. A strip this large is 16,000 × 16,000 px of one byte.
LARGEST_CHUNK = 256 << 20
_KEPT_SCRATCH = 24 << 20
_LARGE_PAGES_FROM = 8 << 20
# Factors this far from the ratio of the longer edges are tried.
_NEAR = 64

Stored = Sequence[memoryview | bytes]
"""The bytes of one chunk as stored, one piece per plane of samples."""


@dataclass(frozen=True, eq=False)
class Level(ABC):
    """A level of `height` × `width` px, each covering `factor` × `factor` px of the full resolution.

    Attributes
    ----------
    path : Path
        The file, for messages.
    into : callable, optional
        Decodes a whole chunk of one 8-bit sample per pixel straight into chunk_height · chunk_width bytes of uint8; may
        raise anything. None if chunks are stored in other ways.
    """

    path: Path
    factor: int
    height: int
    width: int
    chunk_height: int
    chunk_width: int
    dtype: np.dtype
    into: Callable[[memoryview | bytes, np.ndarray], None] | None

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of chunks."""
        return math.ceil(self.height / self.chunk_height), math.ceil(self.width / self.chunk_width)

    def chunk(self, row: int, column: int) -> np.ndarray | None:
        """Read and decode a chunk, cropped to the image.

        Returns
        -------
        (height, width, samples) array or None
            None where the file leaves the chunk out.

        Raises
        ------
        ScanError
            The chunk lies beyond the end of the file or cannot be decoded.
        """
        (((_, stored),),) = self.fetch(row, [column])
        return None if stored is None else self.decode(row, column, stored)

    def decode(self, row: int, column: int, stored: Stored) -> np.ndarray:
        """Decode a fetched chunk, cropped to the image: (height, width, samples), in memory of its own.

        Raises
        ------
        ScanError
            It cannot be decoded.
        """
        try:
            pixels = self._decoded(row, column, stored)
        except ScanError as error:
            raise self._damaged(row, column, error.what) from error
        except Exception as error:  # codecs may raise anything
            raise self._damaged(row, column, f"cannot be decoded ({type(error).__name__}: {error!s:.120}).") from error
        height = min(self.chunk_height, self.height - row * self.chunk_height)
        width = min(self.chunk_width, self.width - column * self.chunk_width)
        if pixels.ndim != 3 or pixels.shape[0] < height or pixels.shape[1] < width:
            raise self._damaged(row, column, f"has {pixels.shape} instead of {height} × {width} px.")
        return pixels[:height, :width]

    @abstractmethod
    def fetch(self, row: int, columns: Sequence[int]) -> Iterator[list[tuple[int, Stored | None]]]:
        """Read chunks of one row as they are stored, None where the file leaves one out; a few of them at once.

        Parameters
        ----------
        columns : sequence of int
            Ascending.

        Yields
        ------
        list of (column, stored)
            Valid until the next ones are requested.

        Raises
        ------
        ScanError
            A chunk lies beyond the end of the file.
        """

    @abstractmethod
    def beyond(self) -> int:
        """Count the chunks that cannot lie where the file says: beyond its end, or in its header."""

    @abstractmethod
    def present(self) -> np.ndarray:
        """Return which chunks the file holds and does not leave out: (rows, columns) of bool."""

    @abstractmethod
    def _decoded(self, row: int, column: int, stored: Stored) -> np.ndarray:
        """Decode a chunk; not cropped, in memory of its own."""

    @property
    def _kind(self) -> str:
        return "chunk"

    def _damaged(self, row: int, column: int, what: str) -> ScanError:
        place = f"{self.path}: {self._kind} in row {row}, column {column}"
        return ScanError(f"{place} {what}", to_fix="copy the scan again from its source")


def whole_factor(full: tuple[int, int], part: tuple[int, int]) -> int:
    """Return the whole number, 2 or more, by which a picture (height, width) is the reduced full one; 0 if it is not.

    Slide scanners also store labels, macro photographs and thumbnails of arbitrary size: only a picture both of whose
    edges are the same whole fraction of the full ones, rounded up or down, is a level. Several numbers may do where an
    edge is short (46 of 3000 px is 1/64 and 1/65): powers of two come first, then the one nearest to the ratio of the
    longer edges.
    """
    long = 0 if full[0] >= full[1] else 1
    ratio = full[long] / part[long]
    smallest = max(2, *(math.ceil(f / (p + 1)) for f, p in zip(full, part, strict=True)))
    largest = min(f if p == 1 else f // (p - 1) for f, p in zip(full, part, strict=True))
    powers = [1 << exponent for exponent in range(1, largest.bit_length()) if smallest <= 1 << exponent <= largest]
    nearest = range(max(smallest, int(ratio) - _NEAR), min(largest, int(ratio) + _NEAR) + 1)
    for candidates in (powers, nearest):
        fitting = [factor for factor in candidates if _fits(full, part, factor)]
        if fitting:
            return min(fitting, key=lambda factor: abs(math.log(factor / ratio)))
    return 0


def _fits(full: tuple[int, int], part: tuple[int, int], factor: int) -> bool:
    return all(f // factor <= p <= -(-f // factor) for f, p in zip(full, part, strict=True))


def missing_only_in(level: Level, full: Level) -> int:
    """Count the chunks that a reduced level leaves out although the full resolution has pixels there."""
    missing = ~level.present()
    if not missing.any():
        return 0
    held = full.present()
    count = 0
    for row, column in np.argwhere(missing).tolist():
        down = _covering(row, level.chunk_height * level.factor, full.chunk_height)
        right = _covering(column, level.chunk_width * level.factor, full.chunk_width)
        count += bool(held[down, right].any())
    return count


def _covering(number: int, chunk: int, other: int) -> slice:
    """Return the chunks of `other` px that chunk `number` of `chunk` px lies over."""
    return slice(number * chunk // other, -(-(number + 1) * chunk // other))


class _Scratch(threading.local):
    """Memory that a thread reuses: it stays in the processor's cache, and no pages are requested."""

    def __init__(self) -> None:
        self.buffers: dict[str, np.ndarray] = {}


_scratch = _Scratch()


def scratch(use: str, count: int) -> np.ndarray:
    """Return `count` bytes of uint8 for one use in this thread, overwritten by the next call for the same use."""
    held = _scratch.buffers.get(use)
    if held is None or held.size < count:
        # From 4 MiB on NumPy requests large memory pages, which are a tenth faster here.
        held = np.empty(max(count, _LARGE_PAGES_FROM), np.uint8)
        if count <= _KEPT_SCRATCH:
            _scratch.buffers[use] = held
    return held[:count]
