"""Examining sections in processes of their own: a crash of native code is the fault of the section's file alone.

Codecs, Pillow and the libraries that measure pictures are native code: one that writes beyond its memory ends its
process, whatever the file's compression is called. A section is examined once, there; only its row and its thumbnail
come back.
"""

import base64
import os
import queue
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from cytonet_pipeline.dataset import Areas, Pick, Section
from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.guard import GuardedProcess, GuardedProcessError, seconds_for
from cytonet_pipeline.histology.inventory.section import Findings, sentence
from cytonet_pipeline.settings import DatasetBlock

# Reading waits for the network more than for the processor. A process takes as long to start as 12 small sections.
_MOST_PROCESSES = 4
_SECTIONS_PER_PROCESS = 24
_processes = [
    GuardedProcess(["-m", "cytonet_pipeline.histology.inventory.section_worker"]) for _ in range(_MOST_PROCESSES)
]


def examine(sections: Sequence[Section], root: Path, block: DatasetBlock) -> Iterator[Findings]:
    """Yield what the files of each section tell, in order; a section over which the process crashes is rejected.

    Parameters
    ----------
    sections : sequence of Section
        Sections with a scan.
    root : path
        The data set's folder.
    """
    if not sections:
        return
    used = _processes[: -(-len(sections) // _SECTIONS_PER_PROCESS)]
    free: queue.SimpleQueue[GuardedProcess] = queue.SimpleQueue()
    for process in used:
        free.put(process)

    def one(section: Section) -> Findings:
        process = free.get()
        try:
            return _examined(process, section, root, block)
        finally:
            free.put(process)

    try:
        with ThreadPoolExecutor(len(used)) as pool:
            yield from pool.map(one, sections)
    finally:
        # One is kept for the next brain, and for the few sections that change later.
        for process in used[1:]:
            process.close()


def _examined(process: GuardedProcess, section: Section, root: Path, block: DatasetBlock) -> Findings:
    files = [path for path in (section.scan, section.mask, section.annotation) if path is not None]
    try:
        answer = process.ask(_request(section, root, block), sum(seconds_for(_size(path)) for path in files))
    except GuardedProcessError as error:
        fault = ScanError(
            f"{error.busy_with or f'{section.scan}: opening it'} {error}: the file is damaged.",
            to_fix="copy it again from its source, or convert it to another compression",
        )
        return Findings({"status": "rejected", "reason": sentence(fault, root)})
    return _findings(answer)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _request(section: Section, root: Path, block: DatasetBlock) -> dict[str, Any]:
    """Write what `examine_section` needs of a section as JSON; `section_of` reads it."""
    areas = section.areas
    return {
        "root": str(root),
        "block": block.model_dump(mode="json"),
        "areas": None if areas is None else {"numbers": sorted(areas.numbers), "by_name": dict(areas.by_name)},
        "pick": list(section.pick),
        **{name: _text(getattr(section, name)) for name in ("scan", "mask", "annotation")},
        **{name: getattr(section, name) for name in ("brain", "sample", "section", "reason", "path")},
        "pixel_um": None if section.pixel_um is None else float(section.pixel_um),
        "mask_value": None if section.mask_value is None else int(section.mask_value),
    }


def _text(path: Path | None) -> str | None:
    return None if path is None else os.fspath(path)


def section_of(request: Mapping[str, Any]) -> tuple[Section, Path, DatasetBlock]:
    """Return the section of a request, the data set's folder and its settings."""
    areas = request["areas"]
    given = {name: request[name] for name in ("brain", "sample", "section", "reason", "path", "pixel_um", "mask_value")}
    given |= {name: request[name] and Path(request[name]) for name in ("scan", "mask", "annotation")}
    given |= {"areas": None if areas is None else Areas(frozenset(areas["numbers"]), areas["by_name"])}
    section = Section(**given, pick=Pick(*request["pick"]))
    return section, Path(request["root"]), DatasetBlock.model_validate(request["block"])


def answer_of(findings: Findings) -> dict[str, Any]:
    """Write findings as JSON; numbers keep all their digits."""
    picture = findings.picture
    stored = None if picture is None else [*picture.shape, base64.b64encode(picture.tobytes()).decode()]
    values = {key: value.item() if isinstance(value, np.generic) else value for key, value in findings.values.items()}
    return {"values": values, "picture": stored, "fault": findings.fault}


def _findings(answer: Mapping[str, Any]) -> Findings:
    stored = answer["picture"]
    picture = None
    if stored is not None:
        height, width, data = stored
        picture = np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width)
    return Findings(answer["values"], picture, answer["fault"])
