"""A step's verdict on its own result: whether it may be used, why not, and the digest by which later steps know it.

Dagster's blocking checks act only within one run. So every brain's verdict lies beside its result, in `status.json`,
that of an encoder in its `encoder.json`, and later steps read it themselves.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cytonet_pipeline.errors import DamagedResult, StoreError
from cytonet_pipeline.settings import SUPERVISED
from cytonet_pipeline.store.atomic import beside
from cytonet_pipeline.store.tables import read_record, write_record


@dataclass(frozen=True)
class Verdict:
    """Verdict on the result in one folder of the store.

    Attributes
    ----------
    status : {"ok", "failed"}
        Whether later steps may use it.
    reasons : tuple of str
        What is wrong, each a message for people; may be given with `ok` as remarks.
    digest : str
        Digest of the content; empty if failed.
    numbers : dict
        Figures worth showing, by name.
    """

    status: Literal["ok", "failed"]
    reasons: tuple[str, ...] = ()
    digest: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether later steps may use the result."""
        return self.status == "ok"

    @classmethod
    def failed(cls, *reasons: object) -> "Verdict":
        """Return the verdict on a result that nothing may use, with the reasons."""
        return cls("failed", tuple(str(reason) for reason in reasons))

    def write(self, folder: Path) -> None:
        """Write `status.json`."""
        write_record(
            beside(folder, "status.json"),
            {"status": self.status, "reasons": self.reasons, "digest": self.digest, "numbers": self.numbers},
        )

    @classmethod
    def read(cls, folder: Path) -> "Verdict":
        """Read `status.json`.

        Raises
        ------
        StoreError
            The step has not run yet.
        """
        record = read_record(beside(folder, "status.json"))
        return cls(record["status"], tuple(record["reasons"]), record["digest"], record.get("numbers", {}))


def verdict_on_encoder(folder: Path) -> Verdict:
    """Return the verdict on a version of an encoder: its training run left it in `encoder.json`, with the weights.

    Collapsed features fail an encoder that learned without labels: nothing was learned. Of one that was trained on
    labels, all the more on one or three per area, they are a result like others: a remark, and it is scored.

    Raises
    ------
    StoreError
        It is not trained.
    """
    record = read_record(folder / "encoder.json")
    problems = tuple(record.get("problems", ()))
    if problems and record.get("method") not in SUPERVISED:
        return Verdict("failed", problems)
    remarks = tuple(f"{problem}; scored all the same, since it was trained on labels" for problem in problems)
    return Verdict("ok", remarks, digest=folder.name)


def digest_left_in(folder: Path) -> str:
    """Return the digest of a step's verdict; "missing" before it ran, "failed" if nothing may use its result.

    Raises
    ------
    DamagedResult
        The verdict is not as it was written: what rests on it must not change for that.
    """
    try:
        verdict = Verdict.read(folder)
    except DamagedResult:
        raise
    except StoreError:
        return "missing"
    return verdict.digest if verdict.ok else "failed"
