"""One question to the queue for the jobs of all runs, however many processes follow one each.

Sites notice whoever asks again and again for every single job. The first process that needs news asks for everybody's
jobs and pins what squeue said to a board of this user on this machine; the others read it there.
"""

import hashlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from cytonet_pipeline.cluster.attempt import read_json
from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.store import lock, write_json

# What was said so lately is still true for anybody; a job that has something new to tell says so in its own files.
FRESH_S = 5.0
# A job that nobody has asked about for so long is followed by nobody any more.
_FOLLOWED_S = 300.0
_ASKING_S = 60.0


class Board:
    """What squeue said last of the jobs of one cluster.

    Parameters
    ----------
    folder : Path
        A private folder of this user.
    cluster : str
        What tells this cluster from others.
    """

    def __init__(self, folder: Path, cluster: str, *, fresh_s: float = FRESH_S) -> None:
        name = hashlib.sha256(cluster.encode()).hexdigest()[:16]
        self._path = folder / f"{name}.board"
        self._lock = folder / f"{name}.asking"
        self._fresh_s = fresh_s

    def answer(self, ids: list[str], ask: Callable[[list[str]], str]) -> str:
        """What squeue says of these jobs, and perhaps of others.

        Parameters
        ----------
        ask : callable
            Asks squeue for jobs; what it raises is raised, and pinned to nothing.
        """
        said = self._read(ids)
        if said is not None:
            return said
        try:
            with lock(self._lock, "asking the queue", wait_s=_ASKING_S):
                said = self._read(ids)
                return self._ask(ids, ask) if said is None else said
        except (StoreError, OSError):
            # A board that cannot be written costs nothing but more questions.
            return ask(ids)

    def _read(self, ids: Iterable[str]) -> str | None:
        pinned = read_json(self._path)
        fresh = 0 <= time.time() - float(pinned.get("asked", 0.0)) < self._fresh_s
        return str(pinned["said"]) if fresh and set(ids) <= pinned["followed"].keys() else None

    def _ask(self, ids: list[str], ask: Callable[[list[str]], str]) -> str:
        now = time.time()
        before: dict[str, Any] = read_json(self._path).get("followed", {})
        followed = {job_id: seen for job_id, seen in before.items() if now - seen < _FOLLOWED_S}
        followed |= dict.fromkeys(ids, now)
        said = ask(list(followed))
        write_json(self._path, {"asked": now, "followed": followed, "said": said})
        return said
