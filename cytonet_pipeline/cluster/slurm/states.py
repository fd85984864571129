"""What Slurm says of a job, as one type: the output of squeue, sacct and scontrol is read here and nowhere else.

`squeue --json` is not used: it changed with every release, and some ignore `--jobs` and print the whole queue.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

# Long enough for what each may hold; squeue cuts off the rest. The name comes last: it may hold anything.
SQUEUE_FORMAT = (
    "JobID:24|,State:32|,exit_code:16|,RestartCnt:12|,Reason:256|,NodeList:1024|,NumNodes:12|,TimeUsed:24|,"
    "tres-alloc:512|,tres-per-node:256|,Name:256"
)
SACCT_FORMAT = "JobIDRaw,State,ExitCode,ElapsedRaw,NodeList,NNodes,AllocTRES,Reason,JobName"


class Phase(StrEnum):
    """Where a job is. What Slurm has more words for is folded into these."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETING = "COMPLETING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"
    CANCELLED = "CANCELLED"
    NODE_FAIL = "NODE_FAIL"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    PREEMPTED = "PREEMPTED"
    BOOT_FAIL = "BOOT_FAIL"
    DEADLINE = "DEADLINE"
    REQUEUED = "REQUEUED"
    SUSPENDED = "SUSPENDED"
    UNKNOWN = "UNKNOWN"


ENDED = frozenset(
    {
        Phase.COMPLETED,
        Phase.FAILED,
        Phase.TIMEOUT,
        Phase.CANCELLED,
        Phase.NODE_FAIL,
        Phase.OUT_OF_MEMORY,
        Phase.PREEMPTED,
        Phase.BOOT_FAIL,
        Phase.DEADLINE,
    }
)

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
# sacct shortens a state to the width that it is given.
_SHORTENED = {"OUT_OF_ME+": Phase.OUT_OF_MEMORY, "CANCELLED+": Phase.CANCELLED}
_NOTHING = {"", "none", "(null)", "n/a", "none assigned", "null"}


@dataclass(frozen=True)
class JobState:
    """A job as Slurm described it last.

    Attributes
    ----------
    reason : str
        Why it waits, or ended; empty where Slurm gives none.
    exit_code, signal : int or None
        Of the batch script; None before the end.
    nodes : str
        Slurm's own notation, as `n[1-2]`.
    restarts : int
        How often it was requeued; 0 where nobody says (sacct).
    gpus : int
        On all nodes together.
    by : str
        User id of whoever cancelled it, where accounting says so.
    """

    job_id: str
    name: str = ""
    phase: Phase = Phase.UNKNOWN
    reason: str = ""
    exit_code: int | None = None
    signal: int | None = None
    nodes: str = ""
    node_count: int = 0
    elapsed_s: int = 0
    restarts: int = 0
    gpus: int = 0
    by: str = ""

    @property
    def ended(self) -> bool:
        """Whether it is over for good; a requeued job is not."""
        return self.phase in ENDED

    def __str__(self) -> str:
        how = [self.reason] if self.reason else []
        how += [f"by user {self.by}"] if self.by else []
        if self.ended and self.signal:
            how.append(f"signal {self.signal}")
        elif self.ended and self.exit_code:
            how.append(f"exit code {self.exit_code}")
        how += [f"restart {self.restarts}"] if self.restarts else []
        why = f" ({', '.join(how)})" if how else ""
        where = f" on {self.nodes}" if self.nodes else ""
        return f"job {self.job_id} {self.phase}{why}{where}"


def parse_squeue(text: str) -> dict[str, JobState]:
    """Jobs in the output of `squeue --noheader --Format=SQUEUE_FORMAT`, by id."""
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
            *(job_id, name, phase, _said(reason), code, number, _said(nodes), _number(node_count)),
            *(_seconds(used), _number(restarts), gpus),
        )
    return jobs


def parse_sacct(text: str) -> dict[str, JobState]:
    """Jobs in the output of `sacct --noheader --parsable2 --format=SACCT_FORMAT`, by id.

    Job steps decide nothing but one thing: where a step ran out of memory, the job that it pulled down did.
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
            *(job_id, name, phase, _said(reason), code, killer, _said(nodes), _number(node_count)),
            *(_number(elapsed), 0, _gpus(allocated), by),
        )
    for job_id in short_of_memory & jobs.keys():
        if jobs[job_id].phase is Phase.FAILED:
            jobs[job_id] = replace(jobs[job_id], phase=Phase.OUT_OF_MEMORY)
    return jobs


def parse_scontrol(text: str) -> dict[str, JobState]:
    """Jobs in the output of `scontrol --oneliner show job`, by id."""
    jobs = {}
    for line in text.splitlines():
        said = dict(re.findall(r"(?:^|\s)([A-Za-z][\w/:]*)=(.*?)(?=\s+[A-Za-z][\w/:]*=|\s*$)", line))
        if "JobId" not in said or "JobState" not in said:
            continue
        phase, _ = _phase(said["JobState"])
        code, number = _exit(said.get("ExitCode", "")) if phase in ENDED else (None, None)
        # NumNodes is a range, "2-4", while a job waits.
        node_count = _number(said.get("NumNodes", "").partition("-")[0])
        gpus = _gpus(said.get("AllocTRES") or said.get("TRES", "")) or _gpus(said.get("TresPerNode", "")) * node_count
        jobs[said["JobId"]] = JobState(
            *(said["JobId"], said.get("JobName", ""), phase, _said(said.get("Reason", "")), code, number),
            *(_said(said.get("NodeList", "")), node_count, _seconds(said.get("RunTime", ""))),
            *(_number(said.get("Restarts", "")), gpus),
        )
    return jobs


def _phase(words: str) -> tuple[Phase, str]:
    """Phase, and who cancelled: `CANCELLED by 1000`."""
    found = re.fullmatch(r"(\S+?)(?:\s+by\s+(\S+))?", words)
    if not found:
        return Phase.UNKNOWN, ""
    # Newer releases join flags to the state: COMPLETED,REQUEUED.
    parts = list(_phases(found[1]))
    running_again = next((phase for phase in parts if phase in (Phase.REQUEUED, Phase.COMPLETING)), None)
    return running_again or parts[0], found[2] or ""


def _phases(word: str) -> Iterator[Phase]:
    for part in word.split(","):
        if part in _FOLDED or part in _SHORTENED:
            yield _FOLDED.get(part) or _SHORTENED[part]
        else:
            yield Phase(part) if part in Phase.__members__ else Phase.UNKNOWN


def _exit(status: str) -> tuple[int | None, int | None]:
    """Exit code and signal, from `code:signal` or from a raw wait status."""
    code, colon, number = status.partition(":")
    if not code.isdigit():
        return None, None
    if colon:
        return int(code), int(number) if number.isdigit() else 0
    return int(code) >> 8, int(code) & 0x7F


def _gpus(tres: str) -> int:
    """GPUs of `gres/gpu=4`, `gres:gpu:4`, `gres/gpu:a100:4`; typed ones repeat the untyped number."""
    untyped = re.findall(r"gpu[=:](\d+)", tres)
    typed = re.findall(r"gpu:[A-Za-z]\w*[=:](\d+)", tres)
    return int(untyped[0]) if untyped else sum(map(int, typed))


def _seconds(elapsed: str) -> int:
    """Seconds of `1-02:03:04`, `2:03`; 0 for anything else (`INVALID`)."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", elapsed)
    if not found:
        return 0
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _said(text: str) -> str:
    return "" if text.lower() in _NOTHING else text
