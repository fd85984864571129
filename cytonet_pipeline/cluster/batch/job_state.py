"""The state of a job as a batch system describes it, in one vocabulary for all of them."""

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """Where a job is. Finer distinctions of a batch system are folded into these."""

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


@dataclass(frozen=True)
class JobState:
    """A job as its queue described it last.

    Attributes
    ----------
    reason : str
        Why it waits, or ended; empty if the queue gives none.
    exit_code, signal : int or None
        Of the batch script; None before the end.
    nodes : str
        In the queue's own notation, such as `n[1-2]`.
    restarts : int
        How often it was requeued; 0 if the source does not report it.
    gpus : int
        On all nodes together.
    by : str
        User id of the person who cancelled it, if accounting reports one.
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
        details = [self.reason] if self.reason else []
        details += [f"by user {self.by}"] if self.by else []
        if self.ended and self.signal:
            details.append(f"signal {self.signal}")
        elif self.ended and self.exit_code:
            details.append(f"exit code {self.exit_code}")
        details += [f"restart {self.restarts}"] if self.restarts else []
        why = f" ({', '.join(details)})" if details else ""
        where = f" on {self.nodes}" if self.nodes else ""
        return f"job {self.job_id} {self.phase}{why}{where}"
