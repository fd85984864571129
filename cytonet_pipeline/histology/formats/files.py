"""The limited number of files that one process keeps open for all its scans.

Files are read by position (`pread`), so that no thread or forked worker moves the position of another one.
"""

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

from cytonet_pipeline.errors import ScanError

OPEN_FILES = 64


class FileState(NamedTuple):
    """A file as it was when its header was read; in another state it is another file."""

    path: Path
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> "FileState":
        """Return the present state of a file."""
        state = os.stat(path)
        return cls(path, state.st_size, state.st_mtime_ns)


class _Descriptor:
    """An open file that closes itself when nobody reads from it any more."""

    def __init__(self, state: FileState) -> None:
        self.number = os.open(state.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


class _OpenFiles:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[FileState, _Descriptor] = OrderedDict()

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

    def __len__(self) -> int:
        return len(self._open)


_files = _OpenFiles()


def _reset_after_fork() -> None:
    # A thread of the parent may have held the lock at the moment of the fork.
    global _files
    _files = _OpenFiles()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)


def read_bytes(state: FileState, offset: int, count: int) -> bytes:
    """Read `count` bytes at `offset`; fewer at the end of the file.

    Raises
    ------
    ScanError
        The file has changed since its header was read.
    """
    descriptor = _files.descriptor(state)
    # Nothing that a damaged header announces is allocated before the file is known to hold it.
    count = min(count, state.size - offset) if 0 <= offset < state.size else 0
    parts = []
    while count > 0 and (part := os.pread(descriptor.number, count, offset)):
        parts.append(part)
        offset, count = offset + len(part), count - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_into(state: FileState, offset: int, buffer: memoryview) -> int:
    """Fill a buffer with bytes from `offset` on, fewer at the end of the file; return their number.

    Raises
    ------
    ScanError
        The file has changed since its header was read.
    """
    descriptor = _files.descriptor(state)
    done = 0
    while done < len(buffer) and (count := os.preadv(descriptor.number, [buffer[done:]], offset + done)):
        done += count
    return done


def forget_file(state: FileState) -> None:
    """Close a file unless somebody is reading from it."""
    _files.forget(state)
