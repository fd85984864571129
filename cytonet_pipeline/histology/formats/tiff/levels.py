"""Levels of a TIFF: where its tiles or strips lie, and their pixels as stored.

Sizes that a file announces are checked against what it can hold before anything is allocated for them. Strips of an
uncompressed image are cut into smaller ones, so that an image written as one strip need not be read whole.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tifffile import TiffPage
from tifffile.tifffile import jpeg_shape

from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.formats.files import FileState, read_bytes, read_into
from cytonet_pipeline.histology.formats.levels import LARGEST_CHUNK, Level, Stored, scratch
from cytonet_pipeline.histology.formats.tiff.codecs import decoder_into
from cytonet_pipeline.histology.formats.tiff.directory import Directory, Numbers
from cytonet_pipeline.histology.formats.tiff.page import chunk_entries

# 2²⁴ tiles of 128 px are 500,000 × 500,000 px.
_MOST_CHUNKS = 1 << 24
_MOST_SAMPLES = 64
_CUT_STRIPS_TO = 1 << 20
# Chunks this close to each other are read at once, up to so many bytes.
_GAP_BYTES = 16 << 10
_TOGETHER_BYTES = 4 << 20
# The header of a classic TIFF; nothing else lies there.
_HEADER_BYTES = 8
_NONE, _JPEG = 1, 7
_JPEG_2000 = frozenset({33004, 33005, 34712})
_SIZ = b"\xff\x4f\xff\x51"

COMPRESSIONS = {
    1: "none",
    5: "LZW",
    7: "JPEG",
    8: "Deflate",
    32773: "PackBits",
    32946: "Deflate",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    34712: "JPEG 2000",
    34926: "Zstd",
    50000: "Zstd",
}


@dataclass(frozen=True, eq=False)
class ChunkTable:
    """Offsets and byte counts of `planes` × `rows` × `columns` chunks."""

    planes: int
    rows: int
    columns: int
    offsets: Numbers
    counts: Numbers
    # Of a file that lacks the size of its only chunk.
    only_count: int | None

    def part(self, plane: int, row: int, first: int, last: int) -> tuple[list[int], list[int]]:
        """Return offsets and counts of the chunks `first` to `last` of a row."""
        begin = (plane * self.rows + row) * self.columns
        offsets = self.offsets.part(begin + first, begin + last).tolist()
        if self.only_count is not None:
            return offsets, [self.only_count]
        return offsets, self.counts.part(begin + first, begin + last).tolist()

    def all(self) -> tuple[np.ndarray, np.ndarray]:
        """Return all offsets and counts, each (planes, rows, columns)."""
        shape = (self.planes, self.rows, self.columns)
        number = math.prod(shape)
        only = None if self.only_count is None else np.array([self.only_count], np.int64)
        counts = self.counts.part(0, number) if only is None else only
        return self.offsets.part(0, number).reshape(shape), counts.reshape(shape)


@dataclass(frozen=True, eq=False)
class TiffLevel(Level):
    """A page of a TIFF. With `cut`, its strips are read in pieces, which are the level's chunks."""

    state: FileState
    page: TiffPage
    ifd_offset: int
    table: ChunkTable
    cut: bool

    def fetch(self, row: int, columns: Sequence[int]) -> Iterator[list[tuple[int, Stored | None]]]:
        """Read tiles of one row; those that are adjacent in the file by one call."""
        if self.cut:
            for column in columns:
                piece = self._piece(row)
                yield [(column, None if piece is None else (piece,))]
        elif self.table.planes > 1:
            for column in columns:
                yield [(column, self._planes(row, column))]
        else:
            yield from self._runs(0, row, columns)

    @property
    def parts(self) -> "tuple[TiffLevel, ...]":
        """The levels of single pages that it consists of: itself."""
        return (self,)

    def beyond(self) -> int:
        """Count the chunks that cannot lie where the file says: beyond its end, in its header or over a directory."""
        offsets, counts = self.table.all()
        outside = (offsets < _HEADER_BYTES) | (counts < 0) | (offsets + counts > self.state.size)
        outside |= (offsets <= self.ifd_offset) & (self.ifd_offset < offsets + counts)
        return int(np.count_nonzero(outside & ~_left_out(offsets, counts)))

    def present(self) -> np.ndarray:
        """Return which chunks the file holds; of strips that are read in pieces, those of the pieces."""
        offsets, counts = self.table.all()
        present = np.asarray(~_left_out(offsets, counts).any(axis=0))
        if self.cut:
            strips = np.arange(self.grid[0]) * self.chunk_height // self.page.rowsperstrip
            return present[strips]
        return present

    @property
    def _kind(self) -> str:
        return "tile" if self.page.is_tiled else "strip"

    def _planes(self, row: int, column: int) -> Stored | None:
        planes = []
        for plane in range(self.table.planes):
            ((_, stored),) = next(self._runs(plane, row, [column]))
            if stored is None:
                return None
            planes.append(bytes(stored[0]))
        return planes

    def _runs(self, plane: int, row: int, columns: Sequence[int]) -> Iterator[list[tuple[int, Stored | None]]]:
        """Read chunks of one plane and row, together as far as they lie together."""
        if not columns:
            return
        first = columns[0]
        offsets, counts = self.table.part(plane, row, first, columns[-1] + 1)
        run: list[tuple[int, int, int]] = []
        begin = end = 0
        for column in columns:
            offset, count = offsets[column - first], counts[column - first]
            together = run and end <= offset <= end + _GAP_BYTES and offset + count <= begin + _TOGETHER_BYTES
            if not together:
                if run:
                    yield self._read(run, row)
                run, begin = [], offset
            if offset == 0 or count == 0:
                yield [(column, None)]
                continue
            if offset < _HEADER_BYTES or count < 0 or offset + count > self.state.size:
                raise self._damaged(row, column, "lies beyond the end of the file: the scan is truncated.")
            run.append((column, offset, count))
            end = offset + count
        if run:
            yield self._read(run, row)

    def _read(self, run: list[tuple[int, int, int]], row: int) -> list[tuple[int, Stored | None]]:
        begin, end = run[0][1], run[-1][1] + run[-1][2]
        buffer = scratch("stored", end - begin).data
        if read_into(self.state, begin, buffer) < end - begin:
            raise self._damaged(row, run[0][0], "lies beyond the end of the file: the scan is truncated.")
        return [(column, (buffer[offset - begin : offset - begin + count],)) for column, offset, count in run]

    def _piece(self, row: int) -> bytes | None:
        """Read rows of an uncompressed image by position, without the strip around them; None of one left out."""
        page, first = self.page, row * self.chunk_height
        rows = min(self.chunk_height, self.height - first)
        row_bytes = self.width * page.samplesperpixel * self.dtype.itemsize
        strip, inside = divmod(first, page.rowsperstrip)
        (offset,), (count,) = self.table.part(0, strip, 0, 1)
        if offset == 0 or count == 0:
            return None
        inside_file = offset >= _HEADER_BYTES
        data = read_bytes(self.state, offset + inside * row_bytes, rows * row_bytes) if inside_file else b""
        if len(data) < rows * row_bytes:
            raise self._damaged(row, 0, "lies beyond the end of the file: the scan is truncated.")
        return data

    def _decoded(self, row: int, column: int, stored: Stored) -> np.ndarray:
        if self.cut:
            samples = np.frombuffer(stored[0], self.dtype.newbyteorder(self.page.parent.byteorder))
            return samples.reshape(-1, self.width, self.page.samplesperpixel).astype(self.dtype)
        planes = [self._plane(plane, row, column, bytes(data)) for plane, data in enumerate(stored)]
        return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)

    def _plane(self, plane: int, row: int, column: int, data: bytes) -> np.ndarray:
        self._refuse_bomb(data)
        index = (plane * self.table.rows + row) * self.table.columns + column
        decoded, _, _ = self.page.decode(data, index, jpegtables=self.page.jpegtables)
        if decoded is None or decoded.dtype != self.dtype:
            raise ScanError("holds pixels of another kind than the file announces.")
        return decoded[0]

    def _refuse_bomb(self, data: bytes) -> None:
        """Refuse a chunk whose own header announces more pixels than a chunk may have.

        Other codecs are given the size that they must fill; image codecs allocate what their data announces.
        """
        height = width = 0
        if self.page.compression == _JPEG:
            _, height, width, _ = jpeg_shape(data)
        elif self.page.compression in _JPEG_2000:
            start = data.find(_SIZ)
            width, height, left, top = np.frombuffer(data[start + 8 : start + 24], ">u4").tolist()
            width, height = width - left, height - top
        if height * width * self.page.samplesperpixel * self.dtype.itemsize > LARGEST_CHUNK:
            raise ScanError(f"announces {width} × {height} px: the scan is damaged.")


def _left_out(offsets: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return which chunks a file leaves out: writers of sparse files set the offset, the byte count or both to 0."""
    return (offsets == 0) | (counts == 0)


def level_of(page: TiffPage, directory: Directory, factor: int) -> TiffLevel:
    """Describe a page of a TIFF as a level.

    Raises
    ------
    ScanError
        The page announces sizes that its file cannot hold, or is stored in a way that is not read.
    """
    state = directory.state
    height, width, samples = int(page.imagelength), int(page.imagewidth), int(page.samplesperpixel)
    dtype = _require_plain(page, str(state.path))
    chunk_height = int(page.tilelength if page.is_tiled else page.rowsperstrip)
    chunk_width = int(page.tilewidth if page.is_tiled else width)
    contiguous = page.planarconfig == 1
    row_bytes = chunk_width * (samples if contiguous else 1) * dtype.itemsize
    cut = _can_be_cut(page) and chunk_height * row_bytes > 4 * _CUT_STRIPS_TO
    if min(chunk_height, chunk_width) < 1 or (chunk_height * row_bytes > LARGEST_CHUNK and not cut):
        raise ScanError(
            f"{state.path}: announces tiles or strips of {chunk_width} × {chunk_height} px.",
            to_fix="convert the scan to tiles, for instance of 512 × 512 px",
        )
    rows, columns = math.ceil(height / chunk_height), math.ceil(width / chunk_width)
    table = _chunk_table(page, directory, (1 if contiguous else samples, rows, columns), cut=cut)
    if cut:
        chunk_height = _cut_height(chunk_height, row_bytes, whole=rows == 1)
    into = None if cut else decoder_into(page)
    shape = (factor, height, width, chunk_height, chunk_width)
    return TiffLevel(state.path, *shape, dtype, into, state, page, directory.offset, table, cut)


def _require_plain(page: TiffPage, name: str) -> np.dtype:
    height, width, samples = int(page.imagelength), int(page.imagewidth), int(page.samplesperpixel)
    if min(height, width, samples) < 1 or samples > _MOST_SAMPLES or page.imagedepth != 1 or page.dtype is None:
        raise ScanError(
            f"{name}: announces an image of {width} × {height} px, {samples} samples of {page.bitspersample} bit, "
            "which is not read.",
            to_fix="export the scan as a plain 2-D TIFF of 8 to 16 bit",
        )
    if page.compression not in COMPRESSIONS:
        raise ScanError(
            f"{name}: compression {getattr(page.compression, 'name', page.compression)} is not read.",
            to_fix=f"convert it to one of {', '.join(sorted(set(COMPRESSIONS.values())))}",
        )
    return page.dtype


def _can_be_cut(page: TiffPage) -> bool:
    plain = page.compression == _NONE and page.predictor == 1 and page.fillorder == 1 and page.planarconfig == 1
    return bool(plain and not page.is_tiled and not page.is_subsampled and page.bitspersample in (8, 16))


def _cut_height(strip_height: int, row_bytes: int, *, whole: bool) -> int:
    """Return how many rows to read at once: a divisor of the strip's height, unless there is only one strip."""
    rows = max(1, _CUT_STRIPS_TO // row_bytes)
    while not whole and strip_height % rows:
        rows -= 1
    return rows


def _chunk_table(page: TiffPage, directory: Directory, shape: tuple[int, int, int], *, cut: bool) -> ChunkTable:
    """Locate the offsets and byte counts of the chunks, as many as the image's size requires."""
    name, number = directory.state.path, math.prod(shape)
    entries = [directory.entries.get(code) for code in chunk_entries(directory)]
    if number > _MOST_CHUNKS:
        raise ScanError(
            f"{name}: announces {number} tiles or strips.", to_fix="convert the scan to tiles of 512 × 512 px"
        )
    offsets, counts = (Numbers(directory.state, directory.form, entry, number) for entry in entries)
    only = None
    if entries[1] is None and number == 1:
        only = max(1, page.imagelength * page.imagewidth * page.samplesperpixel * page.bitspersample // 8)
    for what, values in (("offsets", offsets), ("byte counts", counts)):
        if len(values) < number and not (values is counts and only):
            raise ScanError(
                f"{name}: lists {what} of {len(values)} tiles or strips, but its size asks for {number}.",
                to_fix="copy the scan again from its source",
            )
    table = ChunkTable(*shape, offsets, counts, only)
    largest = int(table.all()[1].max())
    if largest > 2 * LARGEST_CHUNK and not cut:
        raise ScanError(f"{name}: announces a tile of {largest} bytes: the scan is damaged.")
    return table
