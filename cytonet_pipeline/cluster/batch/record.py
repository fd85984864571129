"""`job.json` of an attempt on a cluster: the intent, the job's id, its state and its end.

The intent and the job's name are written before the job is submitted, the id afterwards: a process that is killed in
between leaves a job that the next one finds by its name.
"""

import os
import socket
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cytonet_pipeline.cluster.attempt import read_json, read_lines
from cytonet_pipeline.cluster.batch.job_state import JobState
from cytonet_pipeline.store import write_json

_LONGEST_NAME = 60


def new_name(folder: Path) -> str:
    """Make a job name that no other job has: `cytonet-<encoder>-<version>-<random>`."""
    subject = f"{folder.parent.name}-{folder.name[:8]}"
    return f"cytonet-{subject[:_LONGEST_NAME]}-{uuid.uuid4().hex[:8]}"


def write_intent(place: Path, name: str, cluster: str) -> None:
    """Note what is about to be submitted, by which process, and to which back-end."""
    record = {"cluster": cluster, "state": "intended", "name": name, "started": time.time()}
    write_json(place / "job.json", {**record, "host": socket.gethostname(), "pid": os.getpid()})


def write_id(place: Path, job_id: str) -> None:
    """Note the id of the submitted job."""
    _update(place, state="submitted", job_id=job_id, submitted=time.time())


def write_state(place: Path, state: JobState) -> None:
    """Note the state of the job."""
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
    """Note on whose behalf the job is being cancelled; without accounting it is recorded nowhere else."""
    _update(place, cancelled_for=who)


def starts(place: Path) -> list[dict[str, Any]]:
    """List every start of the job: nodes, when, for how long, how it ended.

    `elapsed_s` is None if the script could not report its end, because its node died.
    """
    runs: list[dict[str, Any]] = []
    for event in read_lines(place / "events.jsonl"):
        if event.get("event") == "start":
            where = {name: event.get(name) for name in ("restart", "nodes", "node_count")}
            runs.append({**where, "started": event["time"], "elapsed_s": None, "exit_code": None, "requeued": False})
        elif runs and event.get("event") == "end":
            runs[-1] |= {"elapsed_s": event["time"] - runs[-1]["started"], "exit_code": event.get("code")}
            runs[-1] |= {name: event[name] for name in ("step", "asked") if event.get(name)}
        elif runs and event.get("event") == "requeue":
            runs[-1]["requeued"] = True
    return runs


def facts_of(place: Path, record: Mapping[str, Any], title: str) -> dict[str, Any]:
    """Collect what people want to know about the job of a finished attempt; empty if none was submitted.

    Parameters
    ----------
    record : mapping
        `job.json` of the attempt at `place`.
    title : str
        Name of the batch system for people.
    """
    if "job_id" not in record:
        return {}
    runs = record.get("starts") or []
    waited = [run["started"] - record["submitted"] for run in runs[:1]]
    return {
        f"{title} job": record["job_id"],
        "nodes": " → ".join(dict.fromkeys(run["nodes"] for run in runs)) or record.get("nodes"),
        "GPUs": record.get("gpus"),
        "elapsed s": record.get("elapsed_s"),
        "node-hours": record.get("node_hours"),
        "waited s": round(max(waited[0], 0.0), 1) if waited else None,
        "restarts": record.get("restarts", 0),
        "attempts": int(place.name.rpartition("-")[2]),
    }


def _restarts(place: Path) -> int:
    return max((run["restart"] or 0 for run in starts(place)), default=0)


def _update(place: Path, **fields: Any) -> None:
    path = place / "job.json"
    write_json(path, {**read_json(path), **fields})
