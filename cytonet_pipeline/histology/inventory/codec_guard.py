"""Decoding strangers' files first in a process of its own, so that a crash of a codec there is a fault of that file.

JPEG, JPEG 2000 and Blosc are decoded by large native libraries, and one that writes beyond its memory ends the whole
process. The other codecs are simple, and are given the size that they must fill.
"""

import atexit
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
from pathlib import Path

from cytonet_pipeline.dataset import Pick
from cytonet_pipeline.errors import ScanError

_RISKY = frozenset({"JPEG", "JPEG 2000", "Blosc"})
_COMMAND = [sys.executable, "-m", "cytonet_pipeline.histology.inventory.codec_worker"]
# Starting it and reading from a slow network drive count too.
_LEAST_SECONDS = 120.0
_BYTES_PER_SECOND = 5e6


def require_decodable(path: Path, pick: Pick, compression: str, size: int) -> None:
    """Have a scan of a risky codec read in another process: first, middle and last tiles, and its coarse levels.

    Faults of other kinds are left to whoever reads the scan in this process.

    Raises
    ------
    ScanError
        The codec crashes over it, or does not come to an end.
    """
    if compression not in _RISKY:
        return
    with _lock:
        fault = _running().ask({"path": str(path), "pick": list(pick)}, _LEAST_SECONDS + size / _BYTES_PER_SECOND)
    if fault:
        raise ScanError(
            f"{path}: decoding its {compression} {fault}: the scan is damaged.",
            to_fix="copy the scan again from its source, or convert it to Deflate",
        )


class _Worker:
    """The other process; it ends with this one, because its standard input does."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            _COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )

    @property
    def alive(self) -> bool:
        """Whether it can be asked; after a fork the parent's worker cannot."""
        return self.pid == os.getpid() and self._process.poll() is None

    def ask(self, request: dict[str, object], seconds: float) -> str:
        """Return how it fails; empty if it comes to an end."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write((json.dumps(request) + "\n").encode())
            process.stdin.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                if not selector.select(seconds):
                    self.close()
                    return f"was not done after {seconds:.0f} s"
            if process.stdout.readline():
                return ""
        self.close()
        code = process.returncode
        return f"ends the program ({signal.Signals(-code).name if code and code < 0 else f'exit code {code}'})"

    def close(self) -> None:
        """End the process."""
        if self.pid != os.getpid():
            return
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _running() -> _Worker:
    global _current
    if _current is None or not _current.alive:
        _current = _Worker()
    return _current


def _close() -> None:
    if _current is not None:
        _current.close()


_current: _Worker | None = None
_lock = threading.Lock()
atexit.register(_close)
