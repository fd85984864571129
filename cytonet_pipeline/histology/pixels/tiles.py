"""The cache of decoded tiles of all scans of one process: 64 MiB, least recently used ones are evicted.

Caching a tile costs a fraction of decoding it, because it goes to memory that no processor cache holds. Random patches
of thousands of scans never need a tile again, patches in index order need most of them again. So all tiles are counted,
cached or not, and they are cached only while more than one in ten is needed again: with fewer, decoding those again
costs less than caching all.
"""

import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

DEFAULT_BYTES = 64 << 20
_WORTH_KEEPING = 0.1
# The hit rate is averaged over this many tiles: about twenty patches of 2048 px.
_REMEMBERED = 1024
# While no tile is cached, one in four is counted for all.
_COUNTED = 4


class TileCache:
    """Cache of the most recently used decoded tiles, bounded by their bytes. Thread-safe.

    Keys are whole numbers: `first_key` of a picture, plus the number of the tile in it.

    Parameters
    ----------
    budget_bytes : int
        Bytes of all tiles together. A single tile that is larger is cached alone: an image in one strip would otherwise
        be decoded again for every patch.
    """

    def __init__(self, budget_bytes: int = DEFAULT_BYTES) -> None:
        self.budget_bytes = budget_bytes
        self._lock = threading.Lock()
        # A tile that was decoded and not cached takes its place in the queue all the same, as None.
        self._queue: OrderedDict[int, tuple[int, np.ndarray | None]] = OrderedDict()
        self._queue_bytes = 0
        self._held_bytes = 0
        self._hit_rate = 1.0

    @property
    def held_bytes(self) -> int:
        """Bytes of the tiles in the cache."""
        return self._held_bytes

    @property
    def worth_keeping(self) -> bool:
        """Whether tiles are needed again often enough."""
        return self._hit_rate > _WORTH_KEEPING

    def find(self, keys: Sequence[int]) -> list[np.ndarray | None]:
        """Return the tiles that are cached, None for the others."""
        queue, count = self._queue, len(keys)
        nothing_kept = not self.worth_keeping and not self._held_bytes
        tiles: list[np.ndarray | None] = [None] * count
        looked_at = [(i, key) for i, key in enumerate(keys) if not (nothing_kept and key % _COUNTED)]
        hits = 0
        with self._lock:
            for i, key in looked_at:
                entry = queue.get(key)
                if entry is not None:
                    hits += 1
                    queue.move_to_end(key)
                    tiles[i] = entry[1]
            if looked_at:
                weight = min(1.0, count / _REMEMBERED)
                self._hit_rate += weight * (hits / len(looked_at) - self._hit_rate)
        return tiles

    def keep(self, key: int, tile: np.ndarray) -> None:
        """Cache a decoded tile, which becomes read-only."""
        if not tile.flags.owndata:
            # A view would keep all of the array that it was cut from.
            tile = tile.copy()
        tile.flags.writeable = False
        with self._lock:
            self._enter(key, tile.nbytes, tile)

    def pass_by(self, keys: Sequence[int], tile_bytes: int) -> None:
        """Count tiles that were decoded and not cached."""
        with self._lock:
            for key in keys:
                if not key % _COUNTED:
                    self._enter(key, _COUNTED * tile_bytes, None)

    def clear(self) -> None:
        """Empty the cache."""
        with self._lock:
            self._queue.clear()
            self._queue_bytes = self._held_bytes = 0
            self._hit_rate = 1.0

    def _enter(self, key: int, tile_bytes: int, tile: np.ndarray | None) -> None:
        known = self._queue.get(key)
        if known is not None:
            if known[1] is not None:
                return
            self._queue_bytes -= known[0]
        self._queue[key] = (tile_bytes, tile)
        self._queue_bytes += tile_bytes
        self._held_bytes += tile_bytes if tile is not None else 0
        while self._queue_bytes > self.budget_bytes and len(self._queue) > 1:
            size, gone = self._queue.popitem(last=False)[1]
            self._queue_bytes -= size
            self._held_bytes -= size if gone is not None else 0


_numbers = itertools.count()
_first_keys: dict[str, int] = {}


def first_key(picture: str) -> int:
    """Return the number of the first tile of a picture; the same for the same name."""
    known = _first_keys.get(picture)
    # No picture has more than 2⁴⁰ tiles.
    return known if known is not None else _first_keys.setdefault(picture, next(_numbers) << 40)


_cache = TileCache()


def tile_cache() -> TileCache:
    """Return the cache of this process."""
    return _cache


def set_tile_budget(budget_bytes: int) -> None:
    """Limit the cache of this process to `budget_bytes` of decoded tiles, and empty it."""
    global _cache
    _cache = TileCache(budget_bytes)


def _reset_after_fork() -> None:
    # A thread of the parent may have held the lock at the moment of the fork.
    set_tile_budget(_cache.budget_bytes)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)
