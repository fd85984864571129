"""Whether a process of this machine is still alive, and is the one that a record means."""

import os
import platform
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def is_alive(pid: int, record: Mapping[str, Any]) -> bool:
    """Tell whether the process of a record runs on this machine.

    Parameters
    ----------
    record : mapping
        `host`, and optionally `born` from `birth_of`: a process number that was used again belongs to another process.
    """
    if record.get("host") != socket.gethostname():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # It runs under another user.
        pass
    state, born = _status(pid)
    # A zombie has ended; its parent has only not collected its exit code yet.
    return state != "Z" and record.get("born") in (None, born)


def birth_of(pid: int) -> str | None:
    """Return when a process started, in clock ticks since the machine's start; None on systems other than Linux."""
    return _status(pid)[1]


def _status(pid: int) -> tuple[str, str | None]:
    try:
        # The command's name is in parentheses and may contain anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", None
    return fields[0], fields[19]


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_name() -> str:
    """Return the name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
