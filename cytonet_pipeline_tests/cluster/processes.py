"""Daemons that tests start: in the background, found by their pid files, on free ports."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

# Daemons lie in folders that are not in an ordinary user's PATH.
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def daemon(*command: str, variables: Mapping[str, str]) -> None:
    """Start a program that goes to the background by itself."""
    environment = {**os.environ, "PATH": PATH, **variables}
    ran = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    if ran.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit {ran.returncode}\n{ran.stdout}{ran.stderr}")


def end(pid_file: Path) -> None:
    """Stop the daemon of a pid file; it is killed after a while."""
    pid = send(pid_file, signal.SIGTERM)
    if pid and not until(lambda: not alive(pid), 10, complain=False):
        send(pid_file, signal.SIGKILL)
        until(lambda: not alive(pid), 10)


def send(pid_file: Path, number: int) -> int | None:
    """Send a signal to the daemon of a pid file; returns its pid, None if there is none."""
    try:
        pid = int(pid_file.read_text())
        os.kill(pid, number)
    except (OSError, ValueError):
        return None
    return pid


def alive(pid: int) -> bool:
    """Tell whether a process runs and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pids() -> list[int]:
    """List the ids of all processes."""
    return [int(place.name) for place in Path("/proc").iterdir() if place.name.isdigit()]


def free_ports(count: int) -> list[int]:
    """Find ports on which no process listens, below those that the system assigns by itself."""
    first = 20000 + (os.getpid() * 37 + time.monotonic_ns()) % 9000
    free: list[int] = []
    for port in range(first, first + 3000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            free.append(port)
        if len(free) == count:
            return free
    raise RuntimeError("no free ports")


def until(condition: Callable[[], object], timeout_s: float, *, complain: bool = True, every_s: float = 0.1) -> bool:
    """Wait until `condition()` holds; if it does not in time, raise `TimeoutError` or return False."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            if complain:
                raise TimeoutError(f"still not so after {timeout_s:g} s")
            return False
        time.sleep(every_s)
    return True
