"""Shards: patches of one size in files of a few hundred megabytes, each patch with its checksum.

`shard-00000.npy` holds the pixels, `shard-00000.sums.npy` the CRC-32 of each patch. A shard exists if both files do.
Both are written atomically, so a killed run continues with the next shard. Every patch is checked at every read.
"""

import threading
import zlib
from pathlib import Path

import numpy as np

from cytonet_pipeline.store import atomic_file

SHARD_BYTES = 1 << 28


class DamagedShard(Exception):
    """The checksum of a patch does not fit, or its file is missing."""

    def __init__(self, shard: int) -> None:
        super().__init__(f"shard {shard}")
        self.shard = shard


class Shards:
    """Shards in one folder.

    Parameters
    ----------
    place : Path
        Folder of the shards.
    patches, edge_px : int
        Number and edge of the patches.
    """

    def __init__(self, place: Path, patches: int, edge_px: int) -> None:
        self.place, self.patches, self.edge_px = place, patches, edge_px
        self.per_shard = max(1, SHARD_BYTES // edge_px**2)
        self.count = -(-patches // self.per_shard)
        self._open: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._opening = threading.Lock()

    def span(self, shard: int) -> slice:
        """Return which patches lie in a shard."""
        return slice(shard * self.per_shard, min((shard + 1) * self.per_shard, self.patches))

    def is_written(self, shard: int) -> bool:
        """Return whether a shard has been written, with the expected shape."""
        try:
            self._opened(shard)
        except DamagedShard:
            return False
        return True

    def write(self, shard: int, images: np.ndarray) -> None:
        """Write a shard (n, edge_px, edge_px) uint8; the sums come last, so that both belong together."""
        pixels, sums = self._paths(shard)
        self.drop(shard)
        with atomic_file(pixels) as temporary, temporary.open("wb") as stream:
            np.save(stream, images)
        with atomic_file(sums) as temporary, temporary.open("wb") as stream:
            np.save(stream, np.array([zlib.crc32(image) for image in images], dtype=np.uint32))

    def drop(self, shard: int) -> None:
        """Close a shard and delete its sums, so that it counts as missing."""
        with self._opening:
            self._open.pop(shard, None)
            self._paths(shard)[1].unlink(missing_ok=True)

    def read(self, places: np.ndarray, out: np.ndarray) -> None:
        """Read patches by their place among all shards into `out` (len(places), edge_px, edge_px).

        Raises
        ------
        DamagedShard
            A checksum does not fit, or a shard is missing.
        """
        shards, within = np.divmod(places, self.per_shard)
        for shard in np.unique(shards):
            pixels, sums = self._opened(int(shard))
            for row in np.flatnonzero(shards == shard):
                out[row] = pixels[within[row]]
                if zlib.crc32(out[row]) != sums[within[row]]:
                    raise DamagedShard(int(shard))

    def _opened(self, shard: int) -> tuple[np.ndarray, np.ndarray]:
        with self._opening:
            if shard not in self._open:
                self._open[shard] = self._load(shard)
            return self._open[shard]

    def _load(self, shard: int) -> tuple[np.ndarray, np.ndarray]:
        pixels, sums = self._paths(shard)
        span = self.span(shard)
        shape = (span.stop - span.start, self.edge_px, self.edge_px)
        try:
            opened = np.load(pixels, mmap_mode="r"), np.load(sums)
        except (OSError, ValueError, EOFError) as error:
            raise DamagedShard(shard) from error
        if (opened[0].shape, opened[0].dtype, opened[1].shape) != (shape, np.uint8, shape[:1]):
            raise DamagedShard(shard)
        return opened

    def _paths(self, shard: int) -> tuple[Path, Path]:
        name = f"shard-{shard:05d}"
        return self.place / f"{name}.npy", self.place / f"{name}.sums.npy"
