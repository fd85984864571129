"""`progress.json`: how far a training is, for whoever looks at its folder from outside."""

import os
import socket
import time
from pathlib import Path
from typing import Any

from cytonet_pipeline.store import write_json

EVERY_S = 2.0


class ProgressFile:
    """Rewritten in one piece at most every two seconds; changes of state at once.

    Holds `state` (starting, packing, training, done, interrupted, failed), `step`, `steps`, the figures of the
    history's last row (`outcome.shown_of`), `host`, `pid`, `updated` (seconds since 1970).
    """

    def __init__(self, path: Path, *, silent: bool = False) -> None:
        self._path, self._silent = path, silent
        self._said: dict[str, Any] = {"host": socket.gethostname(), "pid": os.getpid(), "step": 0, "steps": 0}
        self._written = 0.0

    def say(self, state: str, **figures: Any) -> None:
        """Note how far it is; figures that are not given stay as they were."""
        changed = state != self._said.get("state")
        self._said |= {"state": state, **figures}
        now = time.time()
        if self._silent or (not changed and now - self._written < EVERY_S):
            return
        self._written = now
        write_json(self._path, {**self._said, "updated": now})
