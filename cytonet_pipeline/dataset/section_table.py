"""Reading sections from a table, for brains whose files have other names: nobody renames ten terabytes.

The table also decides between two scans of one sample, and withdraws sections.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cytonet_pipeline.dataset.brain import Section, written_path
from cytonet_pipeline.dataset.discovery import Sections, attach_label_images, is_stain, other_stain, reject
from cytonet_pipeline.dataset.files import find_named, read_tsv
from cytonet_pipeline.dataset.names import is_label, label_fault, section_number
from cytonet_pipeline.dataset.picks import UNPICKED, Pick, with_pick
from cytonet_pipeline.errors import DataFault
from cytonet_pipeline.names import bare

# Of a name in a message.
_SHOWN = 40
_REQUIRED = ("sample_id", "scan")
_LONGEST_NUMBER = 6


def table_path(root: Path, brain: str) -> Path:
    """Return the path of a brain's section table, whether or not it exists."""
    return root / f"derivatives/sections/sub-{brain}/sub-{brain}_sections.tsv"


def read_sections(path: Path, root: Path, brain: str, stain: str, roots: Sequence[Path]) -> Sections:
    """Read a brain's sections from its table; every sample occurs once.

    Raises
    ------
    DataFault
        The table cannot be read or lacks a column.
    """
    frame = read_tsv(path, _REQUIRED)
    result = Sections()
    reader = _RowReader(path, root, brain, stain, roots)
    by_sample: dict[str, list[Section]] = {}
    for number, row in enumerate(frame.to_dict("records"), start=2):
        sample = bare(row["sample_id"] or "", "sample")
        if is_label(sample):
            by_sample.setdefault(sample, []).append(reader.section(sample, row))
        else:
            result.problems.append(
                f"{path.name}, line {number}: {sample[:_SHOWN] or 'n/a'!r} is no sample_id: it {label_fault(sample)}."
            )
    result.sections = [_decide(rows, path) for rows in by_sample.values()]
    # Without the column the table says nothing about masks; with it, n/a means that there is none.
    attach_label_images(result, root, brain, [kind for kind in ("mask", "annotation") if kind not in frame.columns])
    return result


def _decide(rows: list[Section], path: Path) -> Section:
    """Return the section of all rows of a sample: the only one that is not withdrawn."""
    standing = [section for section in rows if section.status != "withdrawn"]
    if len(standing) > 1:
        reason = f"{path.name} lists several scans of the sample; set status to withdrawn on all but one."
        return replace(standing[0], status="rejected", reason=reason)
    return (standing or rows)[0]


class _RowReader:
    def __init__(self, table: Path, root: Path, brain: str, stain: str, roots: Sequence[Path]) -> None:
        self.table, self.root, self.brain, self.stain, self.roots = table, root, brain, stain, roots

    def section(self, sample: str, row: dict[Any, Any]) -> Section:
        """Return the section of a row, with its first fault if it has any."""
        status, reason = (row.get("status") or "ok").lower(), row.get("reason") or ""
        section = Section(self.brain, sample, 0, None, stain=row.get("stain"), path=row["scan"] or "")
        section, faults = self._fill(section, row)
        if status == "withdrawn":
            return replace(section, status="withdrawn", reason=reason or f"withdrawn in {self.table.name}.")
        if status != "ok":
            faults.insert(0, f"{self.table.name} gives status {status!r}; write ok or withdrawn.")
        if not is_stain(section.stain, self.stain):
            faults.insert(0, other_stain(section.stain, self.stain))
        return reject(section, faults[0]) if faults else section

    def _fill(self, section: Section, row: dict[Any, Any]) -> tuple[Section, list[str]]:
        """Fill in what can be read of a row, and list the faults of the rest."""
        faults: list[str] = []

        def attempt(read: Any, *args: Any) -> Any:
            try:
                return read(*args)
            except DataFault as fault:
                faults.append(fault.what)
                return None

        scan = attempt(self._file, row["scan"], "scan")
        pick = attempt(self._pick, row.get("series"), row.get("page")) or UNPICKED
        if row["scan"] is None:
            faults.append(f"{self.table.name} names no scan for sample {section.sample}; fill in the column.")
        section = replace(
            section,
            section=attempt(self._number, row.get("section"), section.sample) or 0,
            scan=scan,
            mask=attempt(self._file, row.get("mask"), "mask"),
            annotation=attempt(self._file, row.get("annotation"), "annotation"),
            pixel_um=attempt(self._pixel_um, row.get("pixel_size_um")),
            mask_value=attempt(self._mask_value, row.get("mask_value")),
            pick=pick,
            path=section.path if scan is None else with_pick(written_path(scan, self.root), pick),
        )
        return section, faults

    def _file(self, text: str | None, column: str) -> Path | None:
        if text is None:
            return None
        path = find_named(text, self.root, self.roots)
        if not path.exists():
            raise DataFault(f"the {column} {text} is not there; put it there or correct {self.table.name}.")
        return path

    def _number(self, text: str | None, sample: str) -> int:
        number = section_number(sample) if text is None else section_number(text) if text.isdigit() else None
        if number is None:
            raise DataFault(f"{self.table.name} gives section {text or 'n/a'!r} for sample {sample}; write its number.")
        return number

    def _mask_value(self, text: str | None) -> int | None:
        if text is None:
            return None
        if not text.isdigit() or int(text) == 0:
            raise DataFault(
                f"{self.table.name} gives mask_value {text!r}; write the number that is cortex in the mask, from 1."
            )
        return int(text)

    def _pick(self, series: str | None, page: str | None) -> Pick:
        for column, text in (("series", series), ("page", page)):
            if text is not None and not (text.isdigit() and len(text) <= _LONGEST_NUMBER):
                raise DataFault(f"{self.table.name} gives {column} {text!r}; write its number, counted from 0.")
        if series is not None and page is not None:
            raise DataFault(f"{self.table.name} gives series and page; write one of them.")
        return Pick(None if series is None else int(series), None if page is None else int(page))

    def _pixel_um(self, text: str | None) -> float | None:
        try:
            size = None if text is None else float(text)
        except ValueError:
            size = float("nan")
        if size is not None and not 0 < size < float("inf"):
            raise DataFault(f"{self.table.name} gives pixel_size_um {text!r}; write a positive number of µm.")
        return size
