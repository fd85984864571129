"""Whether a process of this machine still lives, and is the one that was meant."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def is_alive(pid: int, record: Mapping[str, Any]) -> bool:
    """Whether the process of a record runs here.

    Parameters
    ----------
    record : mapping
        `host`, and `born` as `birth_of` gave it: a number that has been used again belongs to somebody else.
    """
    if record.get("host") != socket.gethostname():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return record.get("born") in (None, birth_of(pid))
    state, born = _status(pid)
    # A zombie has ended, its parent has only not asked.
    return state != "Z" and record.get("born") in (None, born)


def descendants(pid: int) -> list[int]:
    """Processes that a process has started, and those that they have; none where nobody says (other systems)."""
    parents: dict[int, int] = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            fields = (place / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(place.name)] = int(fields[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found[1:]


def birth_of(pid: int) -> str | None:
    """When a process started, in ticks since the machine did; None where nobody says (other systems than Linux)."""
    return _status(pid)[1]


def _status(pid: int) -> tuple[str, str | None]:
    try:
        # The command's name stands in parentheses and may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", None
    return fields[0], fields[19]
