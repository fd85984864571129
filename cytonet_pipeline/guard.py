"""Work on strangers' files in a process of its own, so that a crash of native code there is a fault of that file.

A library that writes beyond its memory ends the whole process, and asks nobody before. What another process has come to
the end of may be done in this one.
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
from collections.abc import Mapping, Sequence
from typing import Any

# Starting the process and reading from a slow network drive count too.
LEAST_SECONDS = 120.0
_BYTES_PER_SECOND = 5e6


class GuardedProcessError(Exception):
    """The process crashed over a request, or did not come to an end; the message continues a sentence about it."""


def seconds_for(size: int) -> float:
    """Return how long a file of so many bytes may take."""
    return LEAST_SECONDS + size / _BYTES_PER_SECOND


class GuardedProcess:
    """A process that answers requests, one at a time; it is started again after a crash.

    Each request is a JSON object on a line of its standard input, each answer one on its standard output.

    Parameters
    ----------
    arguments : sequence of str
        What follows the name of the interpreter.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self._command = [sys.executable, *arguments]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        atexit.register(self.close)

    def ask(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Return the answer to a request.

        Raises
        ------
        GuardedProcessError
            There is none.
        """
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            line = b""
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write((json.dumps(request) + "\n").encode())
                process.stdin.flush()
                with selectors.DefaultSelector() as selector:
                    selector.register(process.stdout, selectors.EVENT_READ)
                    if not selector.select(seconds):
                        process.kill()
                        self.close()
                        raise GuardedProcessError(f"was not done after {seconds:.0f} s")
                line = process.stdout.readline()
            if line:
                answer: dict[str, Any] = json.loads(line)
                return answer
            self.close()
            raise GuardedProcessError(f"ends the program ({_ending_of(process.returncode)})")

    def close(self) -> None:
        """End the process; after a fork the parent's is left alone."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            process.wait(1)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is not None and self._owner == os.getpid() and self._process.poll() is None:
            return self._process
        self.close()
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        return self._process


def _ending_of(returncode: int | None) -> str:
    return signal.Signals(-returncode).name if returncode and returncode < 0 else f"exit code {returncode}"
