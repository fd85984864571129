"""One question to the queue for the jobs of all runs, however many processes follow one job each.

Sites object to a user who asks again and again for every single job. The first process that needs an answer asks for
the jobs of all processes and stores the answer in a file of this user on this machine; the others read it there.
"""

import hashlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from cytonet_pipeline.cluster.attempt import read_json
from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.store import lock, write_json

# An answer of this age is still good enough; a job writes its own events into files anyway.
FRESH_S = 5.0
# A job that was not asked about for this long is not followed any more.
_FOLLOWED_S = 300.0
_ASKING_S = 60.0


class QueueCache:
    """The queue's last answer about the jobs of one cluster.

    Parameters
    ----------
    folder : Path
        A private folder of this user.
    cluster : str
        Text that distinguishes this cluster from others.
    """

    def __init__(self, folder: Path, cluster: str, *, fresh_s: float = FRESH_S) -> None:
        name = hashlib.sha256(cluster.encode()).hexdigest()[:16]
        self._path = folder / f"{name}.queue"
        self._lock = folder / f"{name}.asking"
        self._fresh_s = fresh_s

    def answer(self, ids: list[str], ask: Callable[[list[str]], str]) -> str:
        """Return the queue's output about these jobs, and perhaps about others.

        Parameters
        ----------
        ask : callable
            Asks the queue about jobs; what it raises is raised, and not stored.
        """
        answer = self._read(ids)
        if answer is not None:
            return answer
        try:
            with lock(self._lock, "asking the queue", wait_s=_ASKING_S):
                answer = self._read(ids)
                return self._ask(ids, ask) if answer is None else answer
        except (StoreError, OSError):
            # Without a cache there are more questions, nothing worse.
            return ask(ids)

    def _read(self, ids: Iterable[str]) -> str | None:
        stored = read_json(self._path)
        fresh = 0 <= time.time() - float(stored.get("asked", 0.0)) < self._fresh_s
        return str(stored["answer"]) if fresh and set(ids) <= stored["followed"].keys() else None

    def _ask(self, ids: list[str], ask: Callable[[list[str]], str]) -> str:
        now = time.time()
        before: dict[str, Any] = read_json(self._path).get("followed", {})
        followed = {job_id: seen for job_id, seen in before.items() if now - seen < _FOLLOWED_S}
        followed |= dict.fromkeys(ids, now)
        answer = ask(list(followed))
        write_json(self._path, {"asked": now, "followed": followed, "answer": answer})
        return answer
