"""One writer at a time, on any file system: an exclusive-create lock file with host, pid and heartbeat.

`flock` is not used: network file systems of clusters ignore it or hang on it.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.store.processes import birth_of, is_alive

HEARTBEAT_S = 10.0
# A holder without a heartbeat for this long is dead, or its file system is: nobody waits for it any longer.
STALE_S = 120.0


@contextmanager
def lock(path: Path, purpose: str, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path` while the block runs.

    Parameters
    ----------
    purpose : str
        What it is held for, shown to a process that finds it taken.
    wait_s : float
        How long to wait for another holder.

    Raises
    ------
    StoreError
        Another process holds it, after `wait_s`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_s
    while not _take(path, purpose):
        if _abandoned(path) and _break(path):
            continue
        if time.monotonic() >= deadline:
            raise StoreError(
                f"{path}: held by another process ({_holder(path)}).",
                to_fix="wait for it to end; delete the file if that process is gone",
            )
        time.sleep(0.2)
    stopped = threading.Event()
    beating = threading.Thread(target=_beat, args=(path, stopped), daemon=True)
    beating.start()
    try:
        yield
    finally:
        stopped.set()
        beating.join()
        path.unlink(missing_ok=True)


def _take(path: Path, purpose: str) -> bool:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as stream:
        pid = os.getpid()
        json.dump({"host": socket.gethostname(), "pid": pid, "born": birth_of(pid), "purpose": purpose}, stream)
    return True


def _beat(path: Path, stopped: threading.Event) -> None:
    while not stopped.wait(HEARTBEAT_S):
        try:
            os.utime(path)
        except FileNotFoundError:
            return
        except OSError:
            # The file system is away for a moment: without further heartbeats the lock would be lost later.
            continue


def _holder(path: Path) -> str:
    try:
        held = json.loads(path.read_text())
        return f"{held['purpose']}, process {held['pid']} on {held['host']}"
    except (OSError, ValueError, KeyError):
        return "unknown"


def _abandoned(path: Path) -> bool:
    try:
        if time.time() - path.stat().st_mtime > STALE_S:
            return True
        held = json.loads(path.read_text())
        return bool(held["host"] == socket.gethostname() and not is_alive(int(held["pid"]), held))
    except FileNotFoundError:
        return True
    except (ValueError, KeyError):
        # Created but not yet filled by its holder: younger than the heartbeat, so leave it alone.
        return False


def _break(path: Path) -> bool:
    """Remove an abandoned lock; return whether it is gone.

    Of two processes that find the same lock abandoned one goes first, and the other must not remove the lock that the
    first holds by then: a second lock file makes them take turns, and each looks again in its turn.
    """
    turn = path.with_name(f"{path.name}.breaking")
    try:
        os.close(os.open(turn, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except FileExistsError:
        if _abandoned(turn):
            turn.unlink(missing_ok=True)
        return False
    try:
        if path.exists() and _abandoned(path):
            path.unlink(missing_ok=True)
            return True
        return not path.exists()
    finally:
        turn.unlink(missing_ok=True)


__all__ = ["HEARTBEAT_S", "STALE_S", "lock"]
