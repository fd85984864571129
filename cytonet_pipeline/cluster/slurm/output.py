"""Reading the output of squeue, sacct and scontrol into `JobState`; done here and nowhere else.

`squeue --json` is not used: it changed with every release, and some ignore `--jobs` and print the whole queue.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from cytonet_pipeline.cluster.batch.job_state import ENDED, JobState, Phase

# Widths that are long enough for each field; squeue cuts off the rest. The name comes last: it may contain anything.
SQUEUE_FORMAT = (
    "JobID:24|,State:32|,exit_code:16|,RestartCnt:12|,Reason:256|,NodeList:1024|,NumNodes:12|,TimeUsed:24|,"
    "tres-alloc:512|,tres-per-node:256|,Name:256"
)
SACCT_FORMAT = "JobIDRaw,State,ExitCode,ElapsedRaw,NodeList,NNodes,AllocTRES,Reason,JobName"


_FOLDED = {
    "CONFIGURING": Phase.PENDING,
    "RESV_DEL_HOLD": Phase.PENDING,
    "REQUEUE_FED": Phase.REQUEUED,
    "REQUEUE_HOLD": Phase.REQUEUED,
    "SPECIAL_EXIT": Phase.REQUEUED,
    "RESIZING": Phase.RUNNING,
    "SIGNALING": Phase.RUNNING,
    "STAGE_OUT": Phase.COMPLETING,
    "STOPPED": Phase.SUSPENDED,
}
# sacct shortens a state to the given column width.
_SHORTENED = {"OUT_OF_ME+": Phase.OUT_OF_MEMORY, "CANCELLED+": Phase.CANCELLED}
_NOTHING = {"", "none", "(null)", "n/a", "none assigned", "null"}


def parse_squeue(text: str) -> dict[str, JobState]:
    """Read the jobs in the output of `squeue --noheader --Format=SQUEUE_FORMAT`, by id."""
    jobs = {}
    for line in text.splitlines():
        fields = [field.strip() for field in line.split("|", 10)]
        if len(fields) != 11:
            continue
        job_id, state, status, restarts, reason, nodes, node_count, used, allocated, per_node, name = fields
        phase, _ = _phase(state)
        code, number = _exit(status) if phase in ENDED else (None, None)
        gpus = _gpus(allocated) or _gpus(per_node) * _number(node_count)
        jobs[job_id] = JobState(
            *(job_id, name, phase, _value(reason), code, number, _value(nodes), _number(node_count)),
            *(_seconds(used), _number(restarts), gpus),
        )
    return jobs


def parse_sacct(text: str) -> dict[str, JobState]:
    """Read the jobs in the output of `sacct --noheader --parsable2 --format=SACCT_FORMAT`, by id.

    Lines of job steps are used for one thing only: if a step ran out of memory, the failure of its job is counted as
    out of memory.
    """
    jobs: dict[str, JobState] = {}
    short_of_memory = set()
    for line in text.splitlines():
        fields = [field.strip() for field in line.split("|", 8)]
        if len(fields) != 9:
            continue
        number, state, status, elapsed, nodes, node_count, allocated, reason, name = fields
        job_id, _, step = number.partition(".")
        phase, by = _phase(state)
        if step:
            short_of_memory |= {job_id} if phase is Phase.OUT_OF_MEMORY else set()
            continue
        code, killer = _exit(status) if phase in ENDED else (None, None)
        jobs[job_id] = JobState(
            *(job_id, name, phase, _value(reason), code, killer, _value(nodes), _number(node_count)),
            *(_number(elapsed), 0, _gpus(allocated), by),
        )
    for job_id in short_of_memory & jobs.keys():
        if jobs[job_id].phase is Phase.FAILED:
            jobs[job_id] = replace(jobs[job_id], phase=Phase.OUT_OF_MEMORY)
    return jobs


def parse_scontrol(text: str) -> dict[str, JobState]:
    """Read the jobs in the output of `scontrol --oneliner show job`, by id."""
    jobs = {}
    for line in text.splitlines():
        fields = dict(re.findall(r"(?:^|\s)([A-Za-z][\w/:]*)=(.*?)(?=\s+[A-Za-z][\w/:]*=|\s*$)", line))
        if "JobId" not in fields or "JobState" not in fields:
            continue
        phase, _ = _phase(fields["JobState"])
        code, number = _exit(fields.get("ExitCode", "")) if phase in ENDED else (None, None)
        # NumNodes is a range, "2-4", while a job waits.
        node_count = _number(fields.get("NumNodes", "").partition("-")[0])
        gpus = (
            _gpus(fields.get("AllocTRES") or fields.get("TRES", ""))
            or _gpus(fields.get("TresPerNode", "")) * node_count
        )
        jobs[fields["JobId"]] = JobState(
            *(fields["JobId"], fields.get("JobName", ""), phase, _value(fields.get("Reason", "")), code, number),
            *(_value(fields.get("NodeList", "")), node_count, _seconds(fields.get("RunTime", ""))),
            *(_number(fields.get("Restarts", "")), gpus),
        )
    return jobs


def _phase(text: str) -> tuple[Phase, str]:
    """Read the phase, and the user who cancelled: `CANCELLED by 1000`."""
    match = re.fullmatch(r"(\S+?)(?:\s+by\s+(\S+))?", text)
    if not match:
        return Phase.UNKNOWN, ""
    # Newer releases join flags to the state: COMPLETED,REQUEUED.
    parts = list(_phases(match[1]))
    running_again = next((phase for phase in parts if phase in (Phase.REQUEUED, Phase.COMPLETING)), None)
    return running_again or parts[0], match[2] or ""


def _phases(text: str) -> Iterator[Phase]:
    for part in text.split(","):
        if part in _FOLDED or part in _SHORTENED:
            yield _FOLDED.get(part) or _SHORTENED[part]
        else:
            yield Phase(part) if part in Phase.__members__ else Phase.UNKNOWN


def _exit(status: str) -> tuple[int | None, int | None]:
    """Read exit code and signal from `code:signal` or from a raw wait status."""
    code, colon, number = status.partition(":")
    if not code.isdigit():
        return None, None
    if colon:
        return int(code), int(number) if number.isdigit() else 0
    return int(code) >> 8, int(code) & 0x7F


def _gpus(tres: str) -> int:
    """Count GPUs in `gres/gpu=4`, `gres:gpu:4`, `gres/gpu:a100:4`; typed entries repeat the untyped number."""
    untyped = re.findall(r"gpu[=:](\d+)", tres)
    typed = re.findall(r"gpu:[A-Za-z]\w*[=:](\d+)", tres)
    return int(untyped[0]) if untyped else sum(map(int, typed))


def _seconds(elapsed: str) -> int:
    """Convert `1-02:03:04`, `2:03` to seconds; 0 for anything else (`INVALID`)."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", elapsed)
    if not match:
        return 0
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _value(text: str) -> str:
    return "" if text.lower() in _NOTHING else text
