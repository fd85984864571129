"""How a job ended, in words for people, and what to do about it: from its record and the files that it left."""

import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cytonet_pipeline.cluster.attempt import CONTINUE
from cytonet_pipeline.cluster.slurm.states import Phase

_ENDINGS = {
    Phase.TIMEOUT: "ran into its walltime (TIMEOUT)",
    Phase.NODE_FAIL: "lost a node (NODE_FAIL)",
    Phase.OUT_OF_MEMORY: "ran out of memory (OUT_OF_MEMORY)",
    Phase.PREEMPTED: "was preempted by another job (PREEMPTED)",
    Phase.CANCELLED: "was cancelled (CANCELLED)",
    Phase.BOOT_FAIL: "did not start, its nodes did not boot (BOOT_FAIL)",
    Phase.DEADLINE: "could not end before its deadline (DEADLINE)",
    Phase.FAILED: "failed (FAILED)",
}
_REMEDIES = {
    Phase.TIMEOUT: "raise walltime or signal_before_s in the cluster profile and run again",
    Phase.NODE_FAIL: "run again",
    Phase.OUT_OF_MEMORY: "ask for more memory (directives: {mem: …}) or more nodes in the cluster profile; run again",
    Phase.PREEMPTED: "run again, or ask for another partition or QOS in the cluster profile",
    Phase.CANCELLED: "run again if it should go on",
    Phase.BOOT_FAIL: "run again; tell the site if it happens twice",
    Phase.DEADLINE: "take the deadline out of the cluster profile's directives, or give it more time",
}
_GOES_ON = "; it goes on from the last checkpoint"


def ending_of(record: Mapping[str, Any], place: Path) -> str:
    """The end of a sentence that starts with the attempt.

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
    told = [_how(phase, record)]
    told += [f"after {_duration(record['elapsed_s'])}"] if record.get("elapsed_s") else []
    told += [f"on {record['nodes']}"] if record.get("nodes") else []
    return " ".join(told) + _fault(phase, place)


def remedy_for(record: Mapping[str, Any]) -> str:
    """What to do; empty where only the log can say."""
    told = _REMEDIES.get(Phase(record.get("phase", Phase.UNKNOWN)))
    return told + _GOES_ON if told else ""


def _how(phase: Phase, record: Mapping[str, Any]) -> str:
    code = record.get("exit_code")
    if phase in (Phase.COMPLETED, Phase.UNKNOWN) or code == CONTINUE:
        return str(record.get("lost") or f"ended with exit code {code}")
    told = _ENDINGS.get(phase, f"ended as {phase}")
    if phase is Phase.CANCELLED:
        return f"{told} {_canceller(record.get('cancelled_for'), record.get('by'))}"
    if phase is Phase.FAILED:
        signal = record.get("signal")
        return f"{told} with signal {signal}" if signal else f"{told} with exit code {code}"
    return told


def _fault(phase: Phase, place: Path) -> str:
    """What the job's script found in its first minute."""
    fault = place / "fault.txt"
    if fault.exists():
        return f": {fault.read_text(encoding='utf-8').strip()}"
    if phase is Phase.FAILED and not (place / "events.jsonl").exists():
        return f": its nodes never wrote to {place}, so they cannot see the store, or may not write there"
    return ""


def _canceller(cancelled_for: str | None, by: str | None) -> str:
    if cancelled_for:
        return f"for {cancelled_for}"
    if not by:
        return "by somebody; Slurm names no one without accounting"
    try:
        return f"by {pwd.getpwuid(int(by)).pw_name} (user {by})"
    except (KeyError, ValueError):
        return f"by user {by}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
