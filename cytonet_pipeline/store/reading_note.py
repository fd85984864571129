"""Notes of what a process is reading, for others to find when native code has ended it without a message.

Training, packing and embedding decode scans in their own process: what a codec raises there names its file, but a
signal leaves nothing to ask. So each thread writes down the section that it reads, on the machine's own disk.
"""

import atexit
import contextlib
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from cytonet_pipeline.store.processes import is_alive

_SLOT_BYTES = 1024


class _Notes:
    """One file per process, with a slot for each thread that reads; it lies in the kernel's memory, crash or not."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._lock = threading.Lock()
        self._free: list[int] = []
        self._slots = 0
        self._path = _folder() / str(self.owner)
        self._file = -1
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            # Others could have put links into a folder of theirs.
            if self._path.parent.stat().st_uid == os.getuid():
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
                atexit.register(self._remove)

    def begin(self, what: str) -> int:
        """Write a note and return its slot."""
        with self._lock:
            if not self._free:
                self._free.append(self._slots)
                self._slots += 1
            slot = self._free.pop()
        self._write(slot, what)
        return slot

    def end(self, slot: int) -> None:
        """Wipe a note out."""
        self._write(slot, "")
        with self._lock:
            self._free.append(slot)

    def _write(self, slot: int, what: str) -> None:
        if self._file < 0:
            return
        text = what.encode(errors="replace")[:_SLOT_BYTES].ljust(_SLOT_BYTES)
        with contextlib.suppress(OSError):
            os.pwrite(self._file, text, slot * _SLOT_BYTES)

    def _remove(self) -> None:
        if os.getpid() == self.owner:
            self._path.unlink(missing_ok=True)


_notes: _Notes | None = None
_opening = threading.Lock()


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """Note what this thread reads for as long as the context lasts; a note that cannot be written is left out."""
    notes = _of_this_process()
    slot = notes.begin(what)
    try:
        yield
    finally:
        notes.end(slot)


def _of_this_process() -> _Notes:
    global _notes
    with _opening:
        if _notes is None or _notes.owner != os.getpid():
            _notes = _Notes()
        return _notes


def left_unread(pid: int | None = None) -> str:
    """Return what dead processes of this machine were reading, as sentences, and forget it; '' if nothing is known.

    Parameters
    ----------
    pid : int, optional
        The process that is meant; default: all that have ended.
    """
    sentences = []
    for path in sorted(_folder().glob("*" if pid is None else str(pid))):
        if not path.name.isdecimal() or is_alive(int(path.name), {"host": socket.gethostname()}):
            continue
        with contextlib.suppress(OSError):
            content = path.read_bytes()
            path.unlink()
            slots = [content[at : at + _SLOT_BYTES] for at in range(0, len(content), _SLOT_BYTES)]
            if what := [text for slot in slots if (text := slot.decode(errors="replace").strip())]:
                sentences.append(
                    f"Process {path.name} ended while it read {' and '.join(what)}: if a signal of its own ended it, "
                    "a file is damaged; copy it again from its source, or convert it to another compression."
                )
    return " ".join(sentences)


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"cytonet-{os.getuid()}-reading"
