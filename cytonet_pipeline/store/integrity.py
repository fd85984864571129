"""Whether the files of a result are as they were written.

`faults_in` compares presence and sizes, which costs a call of the file system per file: it is part of every question
for currency. `verified` compares the digest of a file that is about to be read, once per process and file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from cytonet_pipeline.errors import DamagedResult
from cytonet_pipeline.store.damage import damaged, identity_of, marked
from cytonet_pipeline.store.digest import as_json, digest_file
from cytonet_pipeline.store.stamps import FileRecord, full_stamp, is_drawing, stamp_path

# Files that were read and found as they were written, by their identity. Bounded by the files of a store.
_known_whole: set[tuple[object, ...]] = set()
_ATTEMPTS = 3


@dataclass(frozen=True)
class Fault:
    """A file of a result that is not as it was written.

    Attributes
    ----------
    path : Path
    what : str
        What is wrong with it.
    """

    path: Path
    what: str

    @property
    def of_drawing(self) -> bool:
        """Whether it is a picture, which is drawn again without computing the result."""
        return is_drawing(self.path.name)


def faults_in(folder: Path, *, digests: bool = False, parts: bool = True) -> list[Fault]:
    """Compare the files of a result with its stamp.

    Parameters
    ----------
    digests : bool
        Read all files and compare digests too, instead of presence and sizes alone.
    parts : bool
        Look into parts with stamps of their own too; otherwise only whether they are there.

    Returns
    -------
    list of Fault
        None for a result without a stamp, or with one that has no digests, unless a reader left a mark there.
    """
    try:
        stamp = full_stamp(folder)
    except DamagedResult as error:
        return [Fault(stamp_path(folder), error.what)]
    files = (stamp.files if stamp is not None else None) or {}
    faults = [fault for name, record in files.items() if (fault := _fault_of(folder / name, record, digests))]
    known = {fault.path for fault in faults}
    faults += [fault for fault in _still_marked(folder, files) if fault.path not in known]
    for part in (folder / name for name in (stamp.parts if stamp is not None else ())):
        if not stamp_path(part).exists():
            faults.append(Fault(part, "missing or incomplete"))
        elif parts:
            faults += faults_in(part, digests=digests)
    return faults


def is_whole(folder: Path) -> bool:
    """Return whether all files of a result are there in the sizes that were written; pictures do not count."""
    return all(fault.of_drawing for fault in faults_in(folder))


def is_drawn(folder: Path, pictures: Iterable[Path] = ()) -> bool:
    """Return whether the pictures that are drawn after a result are there as they were drawn; among them `pictures`.

    The stamp says so, not the times of the files: clocks are set back.
    """
    try:
        stamp = full_stamp(folder)
    except DamagedResult:
        return False
    if stamp is None or not stamp.drawn or any(fault.of_drawing for fault in faults_in(folder)):
        return False
    return all(picture.exists() for picture in pictures)


def is_current(folder: Path, inputs: Mapping[str, Any]) -> bool:
    """Return whether the result in `folder` is whole and was made from exactly these inputs."""
    return current_inputs(folder) == as_json(inputs)


def current_inputs(folder: Path) -> dict[str, Any] | None:
    """Return what the result in a folder was made from; None if it is missing, incomplete or damaged."""
    try:
        stamp = full_stamp(folder)
    except DamagedResult:
        return None
    return stamp.inputs if stamp is not None and is_whole(folder) else None


def verified(path: Path) -> Path:
    """Return the path of a file to read, after its digest was compared with the one in the stamp beside it.

    A file that no stamp names is not compared: one of version 0.2.1, or of a result that is being written.

    Raises
    ------
    DamagedResult
        It is missing, or not as it was written.
    """
    for _ in range(_ATTEMPTS):
        record = _recorded(path)
        if record is None:
            return path
        fault = _fault_of(path, record, digests=True)
        if fault is None:
            return path
        # Unless it was replaced by a new result between the two looks.
        if _recorded(path) == record:
            raise damaged(path, fault.what)
    return path


def verified_parts(folder: Path) -> list[Path]:
    """Return the files `part-*.parquet` of a result, in order, each compared as by `verified`.

    Where the stamp names files these are the parts: one that has gone is noticed, and one that was put there is not
    read.
    """
    stamp = full_stamp(folder)
    if stamp is None or stamp.files is None:
        return sorted(folder.glob("part-*.parquet"))
    return [verified(folder / name) for name in sorted(stamp.files) if fnmatch(name, "part-*.parquet")]


def digest_of_result(path: Path) -> str:
    """Return the digest of a file of a result, as it was written: a damaged file changes nothing that is made from it.

    Raises
    ------
    OSError
        No stamp names the file, and it cannot be read.
    """
    record = _recorded(path)
    return record.digest if record is not None else digest_file(path)


def _recorded(path: Path) -> FileRecord | None:
    stamp = full_stamp(path.parent)
    return None if stamp is None or stamp.files is None else stamp.files.get(path.name)


def _fault_of(path: Path, record: FileRecord, digests: bool) -> Fault | None:
    identity = identity_of(path)
    if identity is None:
        return Fault(path, "missing")
    if (size := identity[1]) != record.bytes:
        return Fault(path, f"{size:,} bytes instead of {record.bytes:,}")
    if not digests:
        return None
    key = (path, record.digest, *identity)
    if key in _known_whole:
        return None
    if digest_file(path) != record.digest:
        return Fault(path, "its digest is not the one that was recorded")
    _known_whole.add(key)
    return None


def _still_marked(folder: Path, files: Mapping[str, FileRecord]) -> list[Fault]:
    """Return what a reader found damaged and nobody has replaced by the right file since."""
    faults = []
    for name, mark in marked(folder).items():
        path, found = folder / name, str(mark["found"])
        if mark["identity"] == identity_of(path):
            faults.append(Fault(path, found))
        elif name in files and (fault := _fault_of(path, files[name], digests=True)):
            faults.append(fault)
    return faults
