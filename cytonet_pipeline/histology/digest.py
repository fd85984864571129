"""Digests that tell one scan from another without reading tens of gigabytes."""

from pathlib import Path

import numpy as np

from cytonet_pipeline.histology.tiff import Header, read_header
from cytonet_pipeline.histology.tiles import read_bytes
from cytonet_pipeline.store import digest_array, digest_bytes, digest_of

_SAMPLED_TILES = 64
_SAMPLED_BYTES = 1 << 18
# Files up to this size count whole.
_SMALL_BYTES = 16 << 20


def scan_digest(path: Path | str) -> str:
    """Digest of a scan's size, IFD offsets, places and byte counts of all tiles, and the bytes of 64 tiles.

    Of files up to 16 MiB every byte counts. In larger ones a change within a tile that is not sampled and keeps its
    length stays unseen; `store.digest_file` sees all.

    Raises
    ------
    ScanError
        The scan cannot be read.
    """
    return digest_of_header(read_header(Path(path)))


def digest_of_header(header: Header) -> str:
    """`scan_digest` of a scan whose header is known."""
    state = header.state
    if state.size <= _SMALL_BYTES:
        return digest_of({"bytes": state.size, "all": digest_bytes(read_bytes(state, 0, state.size))})
    tables = [
        (level.page.offset, level.height, level.width, digest_array(level.offsets), digest_array(level.counts))
        for level in header.levels
    ]
    offsets, counts = header.levels[0].offsets.ravel(), header.levels[0].counts.ravel()
    chosen = np.unique(np.linspace(0, offsets.size - 1, _SAMPLED_TILES).astype(int))
    sampled = []
    for tile in chosen.tolist():
        start, count = max(0, int(offsets[tile])), max(0, int(counts[tile]))
        # Of one huge strip a piece at its beginning, its middle and its end.
        for begin in sorted({0, max(0, (count - _SAMPLED_BYTES) // 2), max(0, count - _SAMPLED_BYTES)}):
            piece = read_bytes(state, start + begin, min(_SAMPLED_BYTES, count - begin))
            sampled.append(digest_bytes(piece))
    return digest_of({"bytes": state.size, "levels": tables, "sampled": sampled})
