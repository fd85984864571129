"""Sentences about how a job ended, and what to do about it: from its record and the files that it left."""

import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cytonet_pipeline.cluster.attempt import CONTINUE
from cytonet_pipeline.cluster.batch.job_state import Phase

_ENDINGS = {
    Phase.TIMEOUT: "reached its time limit (TIMEOUT)",
    Phase.NODE_FAIL: "lost a node (NODE_FAIL)",
    Phase.OUT_OF_MEMORY: "ran out of memory (OUT_OF_MEMORY)",
    Phase.PREEMPTED: "was preempted by another job (PREEMPTED)",
    Phase.CANCELLED: "was cancelled (CANCELLED)",
    Phase.BOOT_FAIL: "did not start because its nodes did not boot (BOOT_FAIL)",
    Phase.DEADLINE: "could not finish before its deadline (DEADLINE)",
    Phase.FAILED: "failed (FAILED)",
}
_REMEDIES = {
    Phase.TIMEOUT: "raise walltime or signal_before_s in the cluster profile, and run again",
    Phase.NODE_FAIL: "run again",
    Phase.OUT_OF_MEMORY: "request more memory (directives: {mem: …}) or more nodes in the profile, and run again",
    Phase.PREEMPTED: "run again, or request another partition or QOS in the cluster profile",
    Phase.CANCELLED: "run again if it should continue",
    Phase.BOOT_FAIL: "run again; report it to the site if it happens twice",
    Phase.DEADLINE: "remove the deadline from the directives of the cluster profile, or move it",
}
_CONTINUES = "; training continues from the last checkpoint"


def ending_of(record: Mapping[str, Any], place: Path) -> str:
    """Say how an attempt ended: the end of a sentence that starts with it.

    Parameters
    ----------
    record : mapping
        `job.json` of an attempt that has ended.
    place : Path
        The attempt's folder.
    """
    if record.get("refused"):
        return f"was not submitted: {record['refused']}"
    phase = Phase(record.get("phase", Phase.UNKNOWN))
    parts = [_ending(phase, record)]
    parts += [f"after {_duration(record['elapsed_s'])}"] if record.get("elapsed_s") else []
    parts += [f"on {record['nodes']}"] if record.get("nodes") else []
    return " ".join(parts) + _fault(phase, place)


def remedy_for(record: Mapping[str, Any]) -> str:
    """Say what to do; empty if only the log shows the cause."""
    remedy = _REMEDIES.get(Phase(record.get("phase", Phase.UNKNOWN)))
    return remedy + _CONTINUES if remedy else ""


def _ending(phase: Phase, record: Mapping[str, Any]) -> str:
    code = record.get("exit_code")
    if phase in (Phase.COMPLETED, Phase.UNKNOWN) or code == CONTINUE:
        return str(record.get("lost") or f"ended with exit code {code}")
    ending = _ENDINGS.get(phase, f"ended as {phase}")
    if phase is Phase.CANCELLED:
        return f"{ending} {_canceller(record.get('cancelled_for'), record.get('by'))}"
    if phase is Phase.FAILED:
        signal = record.get("signal")
        return f"{ending} with signal {signal}" if signal else f"{ending} with exit code {code}"
    return ending


def _fault(phase: Phase, place: Path) -> str:
    """Return the fault that the job script found in its first minute."""
    fault = place / "fault.txt"
    if fault.exists():
        return f": {fault.read_text(encoding='utf-8').strip()}"
    if phase is Phase.FAILED and not (place / "events.jsonl").exists():
        return f": its nodes never wrote to {place}; they cannot see the store, or are not allowed to write to it"
    return ""


def _canceller(cancelled_for: str | None, by: str | None) -> str:
    if cancelled_for:
        return f"on behalf of {cancelled_for}"
    if not by:
        return "by an unknown user (only accounting records who)"
    try:
        return f"by {pwd.getpwuid(int(by)).pw_name} (user {by})"
    except (KeyError, ValueError):
        return f"by user {by}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
