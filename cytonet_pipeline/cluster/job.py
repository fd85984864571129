"""`job.json` of an attempt on the cluster: what was meant, which job it became, how it stands and how it ended.

The intent and the job's name are written before `sbatch`, the id after it: whoever is killed in between leaves a job
that the next one finds by its name.
"""

import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cytonet_pipeline.cluster.attempt import last_attempt, read_json, read_lines
from cytonet_pipeline.cluster.slurm.states import JobState
from cytonet_pipeline.store import lock, write_json

# Longer than a submission waits for a cluster that does not answer; that its holder is dead is noticed much sooner.
_WAIT_S = 3900.0
_LONGEST_NAME = 60


@contextmanager
def one_submits(folder: Path) -> Iterator[None]:
    """Let one process at a time look for an attempt in a folder and start one if there is none.

    Raises
    ------
    StoreError
        Another process has held the lock for more than an hour.
    """
    with lock(folder / "job" / ".submitting.lock", "looking for a job, or submitting one", wait_s=_WAIT_S):
        yield


def new_name(folder: Path) -> str:
    """A job name that no other job has: `cytonet-<encoder>-<version>-<random>`."""
    what = "-".join([folder.parent.name, folder.name[:8]])
    return f"cytonet-{what[:_LONGEST_NAME]}-{uuid.uuid4().hex[:8]}"


def write_intent(place: Path, name: str) -> None:
    """Say what is about to be submitted, and by whom."""
    record = {"cluster": "slurm", "state": "intended", "name": name, "started": time.time()}
    write_json(place / "job.json", {**record, "host": socket.gethostname(), "pid": os.getpid()})


def write_id(place: Path, job_id: str) -> None:
    """Say which job it became."""
    _update(place, state="submitted", job_id=job_id, submitted=time.time())


def write_state(place: Path, state: JobState) -> None:
    """Note how the job stands."""
    _update(
        place,
        phase=str(state.phase),
        reason=state.reason,
        nodes=state.nodes,
        gpus=state.gpus,
        restarts=max(state.restarts, _restarts(place)),
        starts=starts(place),
    )


def write_end(place: Path, code: int, state: JobState | None = None, **more: Any) -> None:
    """Note how it ended; exit code 0: done, 75: to be continued, else failed."""
    if state is not None:
        write_state(place, state)
        more = {"by": state.by, "signal": state.signal, **more}
    listed = starts(place)
    elapsed_s = sum(run["elapsed_s"] or 0 for run in listed) or (state.elapsed_s if state else 0)
    hours = sum((run["elapsed_s"] or 0) * run["node_count"] for run in listed) / 3600
    _update(
        place,
        state="ended",
        exit_code=code,
        ended=time.time(),
        starts=listed,
        elapsed_s=elapsed_s,
        node_hours=round(hours or (state.elapsed_s * state.node_count / 3600 if state else 0.0), 4),
        **more,
    )


def write_canceller(place: Path, who: str) -> None:
    """Note on whose behalf the job is being cancelled; without accounting nobody else knows."""
    _update(place, cancelled_for=who)


def starts(place: Path) -> list[dict[str, Any]]:
    """Each time that the job ran: nodes, when, for how long, how it ended.

    `elapsed_s` is None where the script could not say it any more: its node died.
    """
    found: list[dict[str, Any]] = []
    for event in read_lines(place / "events.jsonl"):
        if event.get("event") == "start":
            told = {name: event.get(name) for name in ("restart", "nodes", "node_count")}
            found.append({**told, "started": event["time"], "elapsed_s": None, "exit_code": None, "requeued": False})
        elif found and event.get("event") == "end":
            found[-1] |= {"elapsed_s": event["time"] - found[-1]["started"], "exit_code": event.get("code")}
            found[-1] |= {name: event[name] for name in ("step", "asked") if event.get(name)}
        elif found and event.get("event") == "requeue":
            found[-1]["requeued"] = True
    return found


def facts(folder: Path) -> dict[str, Any]:
    """What people want to know of the job behind a finished folder; empty where no cluster was used."""
    place = last_attempt(folder)
    record = read_json(place / "job.json") if place else {}
    if record.get("cluster") != "slurm" or "job_id" not in record:
        return {}
    ran = record.get("starts") or []
    waited = [run["started"] - record["submitted"] for run in ran[:1]]
    return {
        "Slurm job": record["job_id"],
        "nodes": " → ".join(dict.fromkeys(run["nodes"] for run in ran)) or record.get("nodes"),
        "GPUs": record.get("gpus"),
        "elapsed s": record.get("elapsed_s"),
        "node-hours": record.get("node_hours"),
        "waited s": round(max(waited[0], 0.0), 1) if waited else None,
        "restarts": record.get("restarts", 0),
        "attempts": int(place.name.rpartition("-")[2]) if place else 0,
    }


def _restarts(place: Path) -> int:
    return max((run["restart"] or 0 for run in starts(place)), default=0)


def _update(place: Path, **fields: Any) -> None:
    path = place / "job.json"
    write_json(path, {**read_json(path), **fields})
