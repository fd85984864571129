"""Work on strangers' files in a process of its own, so that a crash of native code there is a fault of that file.

A library that writes beyond its memory ends the whole process, and asks nobody before. What another process has come to
the end of may be done in this one, or need not be done again where its answer is the result.
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
import time
from collections.abc import Mapping, Sequence
from typing import Any

# Starting the process and reading from a slow network drive count too.
LEAST_SECONDS = 120.0
_BYTES_PER_SECOND = 5e6
# The key of a line that tells what the process is at, before its answer.
BUSY_WITH = "busy with"
_BLOCK_BYTES = 1 << 16


class GuardedProcessError(Exception):
    """The process crashed over a request, or did not come to an end; the message continues a sentence about it.

    Parameters
    ----------
    what : str
    busy_with : str
        What the process last said that it was at; empty if it said nothing.
    """

    def __init__(self, what: str, busy_with: str = "") -> None:
        super().__init__(what)
        self.busy_with = busy_with


def seconds_for(size: int) -> float:
    """Return how long a file of so many bytes may take."""
    return LEAST_SECONDS + size / _BYTES_PER_SECOND


class GuardedProcess:
    """A process that answers requests, one at a time; it is started again after a crash.

    Each request is a JSON object on a line of its standard input, each answer one on its standard output. Before that
    it may name what it is about to do, in lines of the key `BUSY_WITH` alone.

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
        self._unread = b""
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
            busy_with = ""
            deadline = time.monotonic() + seconds
            try:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write((json.dumps(request) + "\n").encode())
                    process.stdin.flush()
                while line := self._line(process, deadline):
                    answer: dict[str, Any] = json.loads(line)
                    if answer.keys() != {BUSY_WITH}:
                        return answer
                    busy_with = answer[BUSY_WITH]
            except TimeoutError:
                process.kill()
                self.close()
                raise GuardedProcessError(f"was not done after {seconds:.0f} s", busy_with) from None
            self.close()
            raise GuardedProcessError(f"ends the program ({_ending_of(process.returncode)})", busy_with)

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

    def _line(self, process: "subprocess.Popen[bytes]", deadline: float) -> bytes:
        """Return the next line that the process writes; none if it ends before.

        Raises
        ------
        TimeoutError
            It writes none until the deadline (monotonic s).
        """
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError
                block = process.stdout.read(_BLOCK_BYTES)
                if not block:
                    return b""
                self._unread += block
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is not None and self._owner == os.getpid() and self._process.poll() is None:
            return self._process
        self.close()
        self._owner, self._unread = os.getpid(), b""
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # Readiness of the pipe is waited for, so nothing may be held back on this side.
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        return self._process


def _ending_of(returncode: int | None) -> str:
    return signal.Signals(-returncode).name if returncode and returncode < 0 else f"exit code {returncode}"
