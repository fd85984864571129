"""Brains and sections as the rest of the package sees them, with what is wrong with either.

A section that cannot be used is kept, with its status and a reason. Nothing here opens a scan.
"""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from cytonet_pipeline.dataset.areas import Areas
from cytonet_pipeline.dataset.files import size_and_time
from cytonet_pipeline.dataset.once import once
from cytonet_pipeline.dataset.picks import UNPICKED, Pick
from cytonet_pipeline.store import digest_file, digest_of

Status = Literal["ok", "withdrawn", "rejected"]


@dataclass(frozen=True, eq=False)
class Section:
    """One histological section as the tables and file names describe it.

    `reason` tells why a section is withdrawn or rejected; on one that is `ok` it is something to check, and the survey
    flags it. `areas` are those that its annotation may name; None if the data set lists none.

    `mask_value` is the number that is cortex in the mask; None: every number but 0.

    `path` is the scan as written in tables: relative to the data set if it lies below it, otherwise absolute; with
    `pick` behind it, which says which image of a file that holds several is the scan.
    """

    brain: str
    sample: str
    section: int
    scan: Path | None
    mask: Path | None = None
    annotation: Path | None = None
    pixel_um: float | None = None
    stain: str | None = None
    matrix: np.ndarray | None = field(default=None, repr=False)
    warp: Path | None = None
    warp_origin: Literal["corner", "centre"] = "corner"
    status: Status = "ok"
    reason: str = ""
    path: str = ""
    areas: Areas | None = field(default=None, repr=False)
    mask_value: int | None = None
    pick: Pick = UNPICKED


@dataclass(frozen=True, eq=False)
class Brain:
    """A brain: its sections, the files that place them, and what a user must know about them.

    Attributes
    ----------
    sections : tuple of Section
        Sorted by section number, then sample; each sample once.
    to_reference, from_reference : Path or None
        Transform of points from the brain to the reference, and its inverse if one is given.
    surfaces : dict
        The brain's own surfaces, such as `L_pial`.
    problems : tuple of str
        What prevents the brain from being used properly.
    notes : tuple of str
        Files that were skipped without harm, such as scans of another stain.
    sources : tuple of Path
        Every small file that is read or named: tables, sidecars, transforms, chain members, surfaces.
    """

    name: str
    root: Path
    sections: tuple[Section, ...]
    to_reference: Path | None = None
    from_reference: Path | None = None
    surfaces: dict[str, Path] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sources: tuple[Path, ...] = field(default=(), repr=False)

    def fingerprint(self) -> str:
        """Return the digest of everything that is read for this brain.

        Scans, masks and annotations enter by name, size and modification time, the small files by their bytes, and the
        settings through the status that they give each section.
        """
        return once(("fingerprint", id(self)), self._fingerprint)

    def _fingerprint(self) -> str:
        images = {p for s in self.sections for p in (s.scan, s.mask, s.annotation) if p is not None}
        return digest_of(
            {
                "images": [(self.written(path), *size_and_time(path)) for path in sorted(images)],
                "sources": [(self.written(path), _content(path)) for path in sorted(set(self.sources))],
                "sections": [_decided(section) for section in self.sections],
                "problems": self.problems,
            }
        )

    def written(self, path: Path) -> str:
        """Return a path as written in tables: relative to the data set if it lies below it, otherwise absolute."""
        return written_path(path, self.root)


def _decided(section: Section) -> tuple[object, ...]:
    """Return what tables and settings decide of a section; without a mask value as before there were any."""
    given = () if section.mask_value is None else (section.mask_value,)
    return section.sample, section.section, section.pixel_um, section.status, section.reason, *given


def written_path(path: Path, root: Path) -> str:
    """Return a path as written in tables: relative to the data set if it lies below it, otherwise absolute."""
    text, above = path.as_posix(), f"{root.as_posix().rstrip('/')}/"
    return text[len(above) :] if text.startswith(above) else text


# Sensors request fingerprints every minute, and a displacement field has hundreds of megabytes: bytes are read again
# only where size or modification time differ.
_known_contents: dict[tuple[str, int, int], str] = {}
_known_lock = threading.Lock()


def _content(path: Path) -> str:
    size, mtime_ns = size_and_time(path)
    if size < 0:
        return "missing"
    key = (str(path), size, mtime_ns)
    with _known_lock:
        if key in _known_contents:
            return _known_contents[key]
    try:
        digest = digest_file(path)
    except OSError:
        return "unreadable"
    with _known_lock:
        _known_contents[key] = digest
    return digest
