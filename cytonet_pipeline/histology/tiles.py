"""What one process keeps of all its scans: a few open files and 64 MiB of decoded tiles.

Both are shared by every scan of the process and safe between threads. Files are read by position (`pread`), so that no
thread and no forked worker moves another's place in a file.
"""

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cytonet_pipeline.errors import ScanError

CACHE_BYTES = 64 << 20
OPEN_FILES = 64


class FileState(NamedTuple):
    """A file as it was when its header was read; another state is another file."""

    path: Path
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> "FileState":
        """State of a file now."""
        state = os.stat(path)
        return cls(path, state.st_size, state.st_mtime_ns)


class _Descriptor:
    """An open file that closes itself when nobody reads from it any more."""

    def __init__(self, state: FileState) -> None:
        self.number = os.open(state.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


class _Pool:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[FileState, _Descriptor] = OrderedDict()
        self._tiles: OrderedDict[object, np.ndarray] = OrderedDict()
        self._tile_bytes = 0

    def descriptor(self, state: FileState) -> _Descriptor:
        with self._lock:
            if state in self._open:
                self._open.move_to_end(state)
                return self._open[state]
            opened = _Descriptor(state)
            if FileState.of(state.path) != state:
                raise ScanError(f"{state.path}: changed while it was being read.", to_fix="run again when it is whole")
            self._open[state] = opened
            while len(self._open) > OPEN_FILES:
                # A thread that still reads from it holds its own reference: the file closes after that.
                self._open.popitem(last=False)
            return opened

    def forget(self, state: FileState) -> None:
        with self._lock:
            self._open.pop(state, None)

    def tile(self, key: object) -> np.ndarray | None:
        with self._lock:
            found = self._tiles.get(key)
            if found is not None:
                self._tiles.move_to_end(key)
            return found

    def keep(self, key: object, tile: np.ndarray) -> None:
        with self._lock:
            if key in self._tiles:
                return
            self._tiles[key] = tile
            self._tile_bytes += tile.nbytes
            # The newest stays even if it is larger than all that is allowed: an image in one strip would
            # otherwise be decoded again for every patch.
            while self._tile_bytes > CACHE_BYTES and len(self._tiles) > 1:
                self._tile_bytes -= self._tiles.popitem(last=False)[1].nbytes


_pool = _Pool()


def _start_afresh() -> None:
    # A thread of the parent may have held the lock in the moment of the fork.
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)


def read_bytes(state: FileState, offset: int, count: int) -> bytes:
    """Read `count` bytes at `offset`; fewer at the end of the file.

    Raises
    ------
    ScanError
        The file has changed since its header was read.
    """
    descriptor = _pool.descriptor(state)
    parts = []
    while count > 0 and (part := os.pread(descriptor.number, count, offset)):
        parts.append(part)
        offset, count = offset + len(part), count - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def cached_tile(key: object) -> np.ndarray | None:
    """A decoded tile, if this process still has it."""
    return _pool.tile(key)


def keep_tile(key: object, tile: np.ndarray) -> None:
    """Keep a decoded tile; the least recently used ones make room."""
    tile.flags.writeable = False
    _pool.keep(key, tile)


def forget_file(state: FileState) -> None:
    """Close a file unless somebody is reading from it."""
    _pool.forget(state)
