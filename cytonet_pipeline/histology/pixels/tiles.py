"""Decoded tiles that one process keeps of all its scans: 64 MiB, the least recently used ones make room.

Keeping a tile costs a part of what decoding it does, because it goes to memory that no processor cache holds. Random
patches of thousands of scans never meet a tile again, patches in index order meet most of them. So tiles that pass by
are counted, kept or not, and they are kept only while more than one in ten is met again: with fewer, decoding those
again costs less than keeping all.
"""

import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

DEFAULT_BYTES = 64 << 20
_WORTH_KEEPING = 0.1
# Over so many tiles the share of those met again is averaged: about twenty patches of 2048 px.
_REMEMBERED = 1024
# While no tile is kept, one in four is counted for all.
_COUNTED = 4


class TileCache:
    """Least recently used decoded tiles, bounded by their bytes. Safe between threads.

    Keys are whole numbers: `first_key` of a picture, plus the number of the tile in it.

    Parameters
    ----------
    budget_bytes : int
        Bytes of all tiles together. One tile that is larger than that is kept alone: an image in one strip would
        otherwise be decoded again for every patch.
    """

    def __init__(self, budget_bytes: int = DEFAULT_BYTES) -> None:
        self.budget_bytes = budget_bytes
        self._lock = threading.Lock()
        # A tile that passed by without being kept takes its place in the queue all the same, as None.
        self._queue: OrderedDict[int, tuple[int, np.ndarray | None]] = OrderedDict()
        self._queue_bytes = 0
        self._held_bytes = 0
        self._share_met_again = 1.0

    @property
    def held_bytes(self) -> int:
        """Bytes of the tiles that are kept now."""
        return self._held_bytes

    @property
    def worth_keeping(self) -> bool:
        """Whether tiles are met again often enough."""
        return self._share_met_again > _WORTH_KEEPING

    def find(self, keys: Sequence[int]) -> list[np.ndarray | None]:
        """The tiles that are kept, None for the others."""
        queue, count = self._queue, len(keys)
        nothing_kept = not self.worth_keeping and not self._held_bytes
        found: list[np.ndarray | None] = [None] * count
        looked_at = [(i, key) for i, key in enumerate(keys) if not (nothing_kept and key % _COUNTED)]
        met = 0
        with self._lock:
            for i, key in looked_at:
                entry = queue.get(key)
                if entry is not None:
                    met += 1
                    queue.move_to_end(key)
                    found[i] = entry[1]
            if looked_at:
                weight = min(1.0, count / _REMEMBERED)
                self._share_met_again += weight * (met / len(looked_at) - self._share_met_again)
        return found

    def keep(self, key: int, tile: np.ndarray) -> None:
        """Keep a decoded tile; from now on it is read-only."""
        if not tile.flags.owndata:
            # A view would keep all of what it was cut from.
            tile = tile.copy()
        tile.flags.writeable = False
        with self._lock:
            self._enter(key, tile.nbytes, tile)

    def pass_by(self, keys: Sequence[int], tile_bytes: int) -> None:
        """Note tiles that were decoded and not kept."""
        with self._lock:
            for key in keys:
                if not key % _COUNTED:
                    self._enter(key, _COUNTED * tile_bytes, None)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._queue.clear()
            self._queue_bytes = self._held_bytes = 0
            self._share_met_again = 1.0

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
    """A number for a picture, by its name, from which on its tiles are numbered; the same for the same name."""
    found = _first_keys.get(picture)
    # More tiles than 2⁴⁰ no picture has.
    return found if found is not None else _first_keys.setdefault(picture, next(_numbers) << 40)


_cache = TileCache()


def tile_cache() -> TileCache:
    """The decoded tiles of this process."""
    return _cache


def set_tile_budget(budget_bytes: int) -> None:
    """Let this process keep at most so many bytes of decoded tiles; what it has kept is forgotten."""
    global _cache
    _cache = TileCache(budget_bytes)


def _start_afresh() -> None:
    # A thread of the parent may have held the lock in the moment of the fork.
    set_tile_budget(_cache.budget_bytes)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)
