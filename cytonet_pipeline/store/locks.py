"""One writer at a time, on any file system: an exclusive-create lock file with host, pid and heartbeat.

`flock` is not used: network file systems of clusters ignore it or hang on it.

A holder on this host is dead if its process is. A process of another host cannot be asked: it counts as dead if its
heartbeat is old and does not come while this process watches, as clocks of hosts differ and are set. That is logged.
"""

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.store.atomic import store_explained
from cytonet_pipeline.store.processes import birth_of, is_alive

HEARTBEAT_S = 10.0
# A holder without a heartbeat for this long is dead, or its file system is: nobody waits for it any longer.
STALE_S = 120.0
# How many heartbeats must fail to come, by this process's own clock, before an old lock of another host is removed.
_MISSED = 2
_log = logging.getLogger(__name__)


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
        Another process holds it, after `wait_s`; or this user may not write there.
    """
    with store_explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_s
    watch = _Watch(path)
    while not _take(path, purpose):
        if watch.abandoned() and _break(path, watch):
            continue
        if time.monotonic() >= deadline and not watch.undecided():
            raise StoreError(
                f"{path}: held by another process ({_holder(path)}).",
                to_fix="wait for it to end; delete the file if that process is gone",
            )
        time.sleep(min(0.2, HEARTBEAT_S / 5))
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
        with store_explained(path):
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except StoreError as error:
        if not isinstance(error.__cause__, FileExistsError):
            raise
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
        held, beat = json.loads(path.read_text()), path.stat().st_mtime
        holder = f"{held['purpose']}, process {held['pid']} on {held['host']}"
    except (OSError, ValueError, KeyError):
        return "unknown"
    ago = time.time() - beat
    when = f"{ago:.0f} s ago" if ago >= 0 else f"{-ago:.0f} s ahead of this machine's clock"
    return f"{holder}, last heartbeat at {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(beat))}, {when}"


class _Watch:
    """What one process has seen of a lock that another one holds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._since = time.monotonic()

    def abandoned(self) -> bool:
        """Return whether the holder is known to be dead, or as good as: another host's, without a heartbeat."""
        try:
            held = json.loads(self._path.read_text())
            if held["host"] == socket.gethostname():
                return not is_alive(int(held["pid"]), held)
        except FileNotFoundError:
            return True
        except (OSError, ValueError, KeyError):
            pass  # Created and not filled yet, or damaged: its age decides.
        return self._quiet_s() >= (_MISSED * HEARTBEAT_S if self._is_old() else STALE_S)

    def undecided(self) -> bool:
        """Return whether a little more watching shows that the holder is dead."""
        return self._is_old() and not self._is_of_this_host()

    def _is_of_this_host(self) -> bool:
        try:
            return bool(json.loads(self._path.read_text())["host"] == socket.gethostname())
        except (OSError, ValueError, KeyError):
            return False

    def _is_old(self) -> bool:
        try:
            return time.time() - self._path.stat().st_mtime > STALE_S
        except FileNotFoundError:
            return False

    def _quiet_s(self) -> float:
        """Return for how long the lock has not changed, by this process's own clock."""
        try:
            state = self._path.stat()
        except FileNotFoundError:
            return 0.0
        if self._seen != (state.st_ino, state.st_mtime_ns):
            self._seen, self._since = (state.st_ino, state.st_mtime_ns), time.monotonic()
        return time.monotonic() - self._since


def _break(path: Path, watch: _Watch) -> bool:
    """Remove an abandoned lock; return whether it is gone.

    Of two processes that find the same lock abandoned one goes first, and the other must not remove the lock that the
    first holds by then: a second lock file makes them take turns, and each looks again in its turn.
    """
    turn = path.with_name(f"{path.name}.breaking")
    try:
        os.close(os.open(turn, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except FileExistsError:
        # Held for moments: an old one was left by a process that was killed in its turn.
        with suppress(FileNotFoundError):
            if abs(time.time() - turn.stat().st_mtime) > STALE_S:
                turn.unlink()
        return False
    try:
        if path.exists() and watch.abandoned():
            _log.warning("%s: taken over from %s: it is gone, or gives no sign of life", path, _holder(path))
            path.unlink(missing_ok=True)
            return True
        return not path.exists()
    finally:
        turn.unlink(missing_ok=True)


__all__ = ["HEARTBEAT_S", "STALE_S", "lock"]
