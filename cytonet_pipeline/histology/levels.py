"""One level of a TIFF's pyramid: where its tiles or strips lie, and their pixels as stored.

Sizes that a file announces are checked against what it can hold before anything is allocated for them. Strips of an
uncompressed image are cut into smaller ones, so that an image written as one strip need not be read whole.
"""

import math
from dataclasses import dataclass

import numpy as np
from tifffile import TiffPage
from tifffile.tifffile import jpeg_shape

from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.tiles import FileState, read_bytes

# Decoded bytes of one tile or strip. A strip this large is 16,000 × 16,000 px of one byte.
LARGEST_CHUNK = 256 << 20
_CUT_STRIPS_TO = 1 << 20
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
class Level:
    """A level of `height` × `width` px, each covering `factor` × `factor` px of the full resolution.

    `offsets` and `counts` have shape (planes, rows, columns) of its chunks, which are tiles or strips.
    """

    state: FileState
    page: TiffPage
    factor: int
    height: int
    width: int
    chunk_height: int
    chunk_width: int
    dtype: np.dtype
    offsets: np.ndarray
    counts: np.ndarray
    cut: bool = False

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of chunks."""
        return math.ceil(self.height / self.chunk_height), math.ceil(self.width / self.chunk_width)

    def chunk(self, row: int, column: int) -> np.ndarray | None:
        """Decode a chunk, cropped to the image.

        Returns
        -------
        (height, width, samples) array or None
            None where the file leaves the chunk out.

        Raises
        ------
        ScanError
            The chunk lies beyond the end of the file or cannot be decoded.
        """
        place = f"{self.state.path}: {'strip' if self.page.is_tiled == 0 else 'tile'} in row {row}, column {column}"
        try:
            planes = [self._plane(plane, row, column) for plane in range(len(self.offsets))]
        except ScanError as error:
            raise ScanError(f"{place} {error.what}", to_fix="copy the scan again from its source") from error
        except Exception as error:  # codecs raise whatever they like
            raise ScanError(
                f"{place} cannot be decoded ({type(error).__name__}: {error!s:.120}).",
                to_fix="copy the scan again from its source",
            ) from error
        found = [plane for plane in planes if plane is not None]
        if len(found) < len(planes):
            return None
        pixels = found[0] if len(found) == 1 else np.concatenate(found, axis=2)
        height = min(self.chunk_height, self.height - row * self.chunk_height)
        width = min(self.chunk_width, self.width - column * self.chunk_width)
        return pixels[:height, :width]

    def beyond(self) -> int:
        """How many chunks end beyond the end of the file."""
        return int(np.count_nonzero(self.offsets + self.counts > self.state.size))

    def _plane(self, plane: int, row: int, column: int) -> np.ndarray | None:
        if self.cut:
            return self._cut_strip(row)
        offset, count = int(self.offsets[plane, row, column]), int(self.counts[plane, row, column])
        if offset == 0 and count == 0:
            return None
        data = read_bytes(self.state, offset, count) if offset >= 0 else b""
        if len(data) < count or count == 0:
            raise ScanError("lies beyond the end of the file: the scan is truncated.")
        self._refuse_bomb(data)
        rows, columns = self.grid
        index = (plane * rows + row) * columns + column
        decoded, _, _ = self.page.decode(data, index, jpegtables=self.page.jpegtables)
        return None if decoded is None else decoded[0]

    def _cut_strip(self, row: int) -> np.ndarray:
        """Rows of an uncompressed image: read by position, the strip around them stays where it is."""
        page, first = self.page, row * self.chunk_height
        rows = min(self.chunk_height, self.height - first)
        row_bytes = self.width * page.samplesperpixel * self.dtype.itemsize
        strip, inside = divmod(first, page.rowsperstrip)
        data = read_bytes(self.state, int(self.offsets[0, strip, 0]) + inside * row_bytes, rows * row_bytes)
        if len(data) < rows * row_bytes:
            raise ScanError("lies beyond the end of the file: the scan is truncated.")
        stored = np.frombuffer(data, self.dtype.newbyteorder(page.parent.byteorder))
        return stored.reshape(rows, self.width, page.samplesperpixel).astype(self.dtype, copy=False)

    def _refuse_bomb(self, data: bytes) -> None:
        """Refuse a chunk whose own header announces more pixels than a chunk may have.

        Other codecs are handed the size that they must fill; those of images allocate what their data announces.
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


def level_of(page: TiffPage, state: FileState, factor: int) -> Level:
    """Describe a TIFF page as a level.

    Raises
    ------
    ScanError
        The page announces sizes that its file cannot hold, or is stored in a way that is not read.
    """
    height, width, samples = int(page.imagelength), int(page.imagewidth), int(page.samplesperpixel)
    if min(height, width, samples) < 1 or page.imagedepth != 1 or page.dtype is None:
        raise ScanError(
            f"{state.path}: announces an image of {width} × {height} px, {page.bitspersample} bit, which is not read.",
            to_fix="export the scan as a plain 2-D TIFF of 8 to 16 bit",
        )
    if page.compression not in COMPRESSIONS:
        raise ScanError(
            f"{state.path}: compression {getattr(page.compression, 'name', page.compression)} is not read.",
            to_fix=f"convert it to one of {', '.join(sorted(set(COMPRESSIONS.values())))}",
        )
    chunk_height = int(page.tilelength if page.is_tiled else page.rowsperstrip)
    chunk_width = int(page.tilewidth if page.is_tiled else width)
    contiguous = page.planarconfig == 1
    row_bytes = chunk_width * (samples if contiguous else 1) * page.dtype.itemsize
    cut = _can_be_cut(page) and chunk_height * row_bytes > 4 * _CUT_STRIPS_TO
    if min(chunk_height, chunk_width) < 1 or (chunk_height * row_bytes > LARGEST_CHUNK and not cut):
        raise ScanError(
            f"{state.path}: announces tiles or strips of {chunk_width} × {chunk_height} px.",
            to_fix="convert the scan to tiles, for instance of 512 × 512 px",
        )
    shape = (1 if contiguous else samples, math.ceil(height / chunk_height), math.ceil(width / chunk_width))
    offsets, counts = _chunk_table(page, state, shape)
    if counts.max() > 2 * LARGEST_CHUNK and not cut:
        raise ScanError(f"{state.path}: announces a tile of {counts.max()} bytes: the scan is damaged.")
    if cut:
        chunk_height = _cut_height(chunk_height, row_bytes, whole=shape[1] == 1)
    return Level(state, page, factor, height, width, chunk_height, chunk_width, page.dtype, offsets, counts, cut)


def _can_be_cut(page: TiffPage) -> bool:
    plain = page.compression == _NONE and page.predictor == 1 and page.fillorder == 1 and page.planarconfig == 1
    return bool(plain and not page.is_tiled and not page.is_subsampled and page.bitspersample in (8, 16))


def _cut_height(strip_height: int, row_bytes: int, *, whole: bool) -> int:
    """Rows to read at once: a divisor of the strip's height, unless there is only one strip."""
    rows = max(1, _CUT_STRIPS_TO // row_bytes)
    while not whole and strip_height % rows:
        rows -= 1
    return rows


def _chunk_table(page: TiffPage, state: FileState, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and byte counts of the chunks, as many as the image's size asks for."""
    number = math.prod(shape)
    tables = []
    for what, values in (("offsets", page.dataoffsets), ("byte counts", page.databytecounts)):
        if len(values) < number:
            raise ScanError(
                f"{state.path}: lists {what} of {len(values)} tiles or strips, but its size asks for {number}.",
                to_fix="copy the scan again from its source",
            )
        tables.append(np.array(values[:number], dtype=np.int64).reshape(shape))
    return tables[0], tables[1]
