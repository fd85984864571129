"""Sections that people withdrew: `sub-XX_withdrawn.tsv`, which comes on top of a section table or discovery.

A section table lists *all* sections of a brain, so one row in it would drop the others. This file names only those that
must not be used. It is the one file of a data set that this program writes.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cytonet_pipeline.dataset.brain import Section
from cytonet_pipeline.dataset.files import read_tsv
from cytonet_pipeline.errors import ConfigurationError, DataFault, StoreError
from cytonet_pipeline.names import bare, describe_known
from cytonet_pipeline.store import lock, write_text

COLUMNS = ("sample_id", "reason", "by", "date")
_REQUIRED = ("sample_id",)
_LOCK_WAIT_S = 30.0


@dataclass(frozen=True)
class Withdrawal:
    """One row: a section that must not be used, why, and who decided on which day (YYYY-MM-DD)."""

    sample: str
    reason: str
    by: str = ""
    date: str = ""

    @property
    def text(self) -> str:
        """The reason as the section's `reason` gives it, with person and date where they are known."""
        known = [part for part in (self.by and f"by {self.by}", self.date) if part]
        reason = self.reason or "withdrawn, no reason given"
        return f"{reason} ({', '.join(known)})" if known else reason


def withdrawals_path(root: Path, brain: str) -> Path:
    """Return the path of a brain's withdrawn sections, whether or not it exists."""
    return root / f"derivatives/sections/sub-{brain}/sub-{brain}_withdrawn.tsv"


def read_withdrawals(path: Path) -> list[Withdrawal]:
    """Read the withdrawn sections of a brain; none without the file.

    Raises
    ------
    DataFault
        The file cannot be read, lacks the column, or has a row without a sample.
    """
    if not path.exists():
        return []
    frame = read_tsv(path, _REQUIRED)
    found = []
    for number, row in enumerate(frame.to_dict("records"), start=2):
        if row["sample_id"] is None:
            raise DataFault(f"{path.name}, row {number}: no sample_id; fill it in or remove the row.")
        rest = {name: row.get(name) or "" for name in COLUMNS[1:]}
        found.append(Withdrawal(bare(row["sample_id"], "sample"), **rest))
    return found


def withdraw_listed(sections: Sequence[Section], path: Path) -> tuple[list[Section], list[str]]:
    """Set the sections that the file lists to `withdrawn`.

    Returns
    -------
    sections : list of Section
        All of them; if the file cannot be read, all as rejected: nobody knows which of them must not be used.
    problems : list of str
        Rows that name no section of the brain, or why the file cannot be read.
    """
    try:
        listed = read_withdrawals(path)
    except DataFault as fault:
        reason = f"{fault.what} Until then no section of the brain is used: any of them may be withdrawn."
        standing = [s if s.status == "withdrawn" else replace(s, status="rejected", reason=reason) for s in sections]
        return standing, [reason]
    by_sample = {withdrawal.sample: withdrawal for withdrawal in listed}
    result = [
        replace(section, status="withdrawn", reason=by_sample[section.sample].text)
        if section.sample in by_sample
        else section
        for section in sections
    ]
    known = [section.sample for section in sections]
    problems = [
        f"{path.name} withdraws sample {sample}, which the brain does not have ({describe_known(sample, known)}); "
        "correct the row, or remove it if the scan itself has been removed."
        for sample in by_sample
        if known and sample not in known
    ]
    return result, problems


def add_withdrawals(path: Path, withdrawals: Sequence[Withdrawal]) -> None:
    """Append rows to the file of a brain, and write it if there is none; rows and columns that it has stay.

    The file is written beside its name and renamed. Several people may withdraw sections at the same time.

    Raises
    ------
    ConfigurationError
        The data set cannot be written here; the message has the rows for somebody who may.
    DataFault
        The file is there and cannot be read.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with lock(path.with_name(f".{path.name}.lock"), "withdrawing sections", wait_s=_LOCK_WAIT_S):
            read_withdrawals(path)  # A file that cannot be read is not added to.
            write_text(path, _with_rows(path, withdrawals))
    except (OSError, StoreError) as error:
        raise _not_written(path, withdrawals, error) from error


def _with_rows(path: Path, withdrawals: Sequence[Withdrawal]) -> str:
    before = path.read_text(encoding="utf-8-sig") if path.exists() else "\t".join(COLUMNS) + "\n"
    columns = [column.strip() for column in before.splitlines()[0].split("\t")]
    missing = [column for column in COLUMNS if column not in columns]
    if missing:
        raise DataFault(f"{path.name} has no column {', '.join(missing)}; add it to the first line.")
    return before + ("" if before.endswith("\n") else "\n") + _rows(columns, withdrawals)


def _rows(columns: Sequence[str], withdrawals: Sequence[Withdrawal]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    for withdrawal in withdrawals:
        cells = {
            "sample_id": f"sample-{withdrawal.sample}",
            "reason": withdrawal.reason,
            "by": withdrawal.by,
            "date": withdrawal.date,
        }
        writer.writerow([" ".join(cells.get(column, "").split()) or "n/a" for column in columns])
    return text.getvalue()


def _not_written(path: Path, withdrawals: Sequence[Withdrawal], error: Exception) -> ConfigurationError:
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
    header = "" if path.exists() else "\t".join(COLUMNS) + "\n"
    rows = (header + _rows(COLUMNS, withdrawals)).rstrip("\n").replace("\n", "\n              ")
    return ConfigurationError(
        f"{path}: cannot be written ({why}); nothing is withdrawn yet.",
        to_fix=f"ask somebody who may write to the data set to append, separated by tabs:\n              {rows}",
        meanwhile="the sections are still used",
    )
