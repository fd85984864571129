"""TIFFs of any size that cost next to nothing: all tiles are the same bytes."""

import struct
from pathlib import Path

import imagecodecs
import numpy as np


def write_announced(path: Path, width: int, height: int, edge: int) -> Path:
    """Write a BigTIFF of grey tiles (Zstd) of `edge` px, each of them the same noise."""
    tile = np.random.default_rng(0).integers(100, 200, (edge, edge), dtype=np.uint8)
    data = imagecodecs.zstd_encode(tile)
    number = -(-width // edge) * -(-height // edge)
    start = 16 + len(data) + -len(data) % 8
    counts_at, ifd_at = start + 8 * number, start + 16 * number
    tags = {256: width, 257: height, 258: 8, 259: 50000, 262: 1, 277: 1, 322: edge, 323: edge}
    entries = [struct.pack("<HHQQ", code, 4, 1, value) for code, value in tags.items()]
    entries += [struct.pack("<HHQQ", code, 16, number, at) for code, at in ((324, start), (325, counts_at))]
    with path.open("wb") as stream:
        stream.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, ifd_at) + data)
        stream.seek(start)
        stream.write(np.full(number, 16, "<u8").tobytes() + np.full(number, len(data), "<u8").tobytes())
        stream.write(struct.pack("<Q", len(entries)) + b"".join(entries) + bytes(8))
    return path
