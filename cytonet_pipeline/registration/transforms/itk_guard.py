"""Reading strangers' files with ITK first in a process of its own, so that a crash there is a fault of that file.

ITK's readers are native code: a damaged HDF5 file can end the process that reads it. What the worker process has read
to the end may be read in this one.
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
from typing import Any, Literal

from cytonet_pipeline.errors import TransformError
from cytonet_pipeline.registration.transforms import itk_worker

WRITE_AGAIN = "write the transform again with the program that made it"
_SCRIPT = itk_worker.__file__
# Reading from a slow network drive counts too.
_LEAST_SECONDS = 120.0
_BYTES_PER_SECOND = 5e6

Kind = Literal["transform", "image"]


class RejectedByItkError(Exception):
    """ITK cannot read a file, and says why."""


def ask_itk(kind: Kind, path: Path) -> dict[str, Any]:
    """Have a file read by ITK in another process.

    Parameters
    ----------
    kind : {"transform", "image"}
        Whether to read a transform to the end, or the place of an image.

    Returns
    -------
    dict
        Nothing for a transform that can be read; origin, spacing and direction (LPS mm) for an image.

    Raises
    ------
    RejectedByItkError
        ITK refuses the file.
    TransformError
        ITK crashes over it, or does not come to an end.
    """
    status = path.stat()
    # The answer holds for one version of the file.
    key = (kind, str(path.resolve()), status.st_mtime_ns, status.st_size)
    with _lock:
        if key not in _answers:
            _answers[key] = _worker().ask(kind, path, _LEAST_SECONDS + status.st_size / _BYTES_PER_SECOND)
        reply = _answers[key]
    if "crash" in reply:
        raise TransformError(
            f"{path}: {reply['crash']}: the file is damaged.", to_fix=f"copy it again, or {WRITE_AGAIN}"
        )
    if "error" in reply:
        raise RejectedByItkError(reply["error"])
    return reply


class _Worker:
    """The other process; it ends with this one, because its standard input does."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, _SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    @property
    def alive(self) -> bool:
        """Whether it can be asked; after a fork the parent's worker cannot."""
        return self.pid == os.getpid() and self._process.poll() is None

    def ask(self, kind: Kind, path: Path, seconds: float) -> dict[str, Any]:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        request = json.dumps({"read": kind, "path": os.path.abspath(path)}) + "\n"
        line = b""
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(request.encode())
            process.stdin.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                if not selector.select(seconds):
                    process.kill()
                    self.close()
                    return {"crash": f"ITK was not done with it after {seconds:.0f} s"}
            line = process.stdout.readline()
        if line:
            reply: dict[str, Any] = json.loads(line)
            return reply
        self.close()
        return {"crash": f"ITK crashes over it ({_name_of(process.returncode)})"}

    def close(self) -> None:
        """End the process."""
        if self.pid != os.getpid():
            return
        process = self._process
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            process.wait(1)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _worker() -> _Worker:
    global _current
    if _current is None or not _current.alive:
        if _current is not None:
            _current.close()
        _current = _Worker()
    return _current


def _name_of(returncode: int | None) -> str:
    if returncode is None or returncode >= 0:
        return f"exit code {returncode}"
    return signal.Signals(-returncode).name


def _close() -> None:
    if _current is not None:
        _current.close()


_current: _Worker | None = None
_answers: dict[tuple[str, str, int, int], dict[str, Any]] = {}
_lock = threading.Lock()
atexit.register(_close)
