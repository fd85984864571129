"""Digests that tell one scan from another without reading tens of gigabytes."""

from pathlib import Path

import numpy as np

from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.formats.files import read_bytes
from cytonet_pipeline.histology.formats.ome_zarr.reader import ZarrHeader, read_zarr_header
from cytonet_pipeline.histology.formats.tiff.reader import Header, read_header
from cytonet_pipeline.store import digest_array, digest_bytes, digest_of

_SAMPLED_TILES = 64
_SAMPLED_BYTES = 1 << 18
# Files up to this size count whole.
_SMALL_BYTES = 16 << 20
_METADATA = ("zarr.json", ".zattrs", ".zarray", ".zgroup", ".zmetadata")


def scan_digest(path: Path | str) -> str:
    """Digest of a scan's size, IFD offsets, places and byte counts of all tiles, and the bytes of 64 tiles.

    Of an OME-Zarr: names and sizes of all files, the metadata, and the bytes of 64 chunks.

    Of files up to 16 MiB every byte counts. In larger ones a change within a tile that is not sampled and keeps its
    length stays unseen; `store.digest_file` sees all.

    Raises
    ------
    ScanError
        The scan cannot be read.
    """
    path = Path(path)
    return digest_of_header(read_zarr_header(path) if path.is_dir() else read_header(path))


def digest_of_header(header: Header | ZarrHeader) -> str:
    """`scan_digest` of a scan whose header is known."""
    if isinstance(header, ZarrHeader):
        return _digest_of_folder(header)
    state = header.state
    if state.size <= _SMALL_BYTES:
        return digest_of({"bytes": state.size, "all": digest_bytes(read_bytes(state, 0, state.size))})
    tables = [
        (level.ifd_offset, level.height, level.width, *map(digest_array, level.table.all())) for level in header.levels
    ]
    offsets, counts = (numbers.ravel() for numbers in header.levels[0].table.all())
    chosen = np.unique(np.linspace(0, offsets.size - 1, _SAMPLED_TILES).astype(int))
    sampled = []
    for tile in chosen.tolist():
        start, count = max(0, int(offsets[tile])), max(0, int(counts[tile]))
        # Of one huge strip a piece at its beginning, its middle and its end.
        for begin in sorted({0, max(0, (count - _SAMPLED_BYTES) // 2), max(0, count - _SAMPLED_BYTES)}):
            piece = read_bytes(state, start + begin, min(_SAMPLED_BYTES, count - begin))
            sampled.append(digest_bytes(piece))
    return digest_of({"bytes": state.size, "levels": tables, "sampled": sampled})


def _digest_of_folder(header: ZarrHeader) -> str:
    whole = header.bytes <= _SMALL_BYTES
    chunks = [name for name, _ in header.files if not name.endswith(_METADATA)]
    chosen = np.unique(np.linspace(0, len(chunks) - 1, _SAMPLED_TILES).astype(int)).tolist() if chunks else []
    read = {name for name, _ in header.files} - (set() if whole else set(chunks)) | {chunks[i] for i in chosen}
    contents = {name: digest_bytes(_beginning(header.path / name, whole=whole)) for name in sorted(read)}
    return digest_of({"files": header.files, "contents": contents})


def _beginning(path: Path, *, whole: bool) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read() if whole else stream.read(_SAMPLED_BYTES)
    except OSError as error:
        raise ScanError(f"{path}: cannot be read ({error.strerror or error}).") from error
