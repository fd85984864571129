"""Comparing a whole store with what was recorded when it was written: every file is read."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.progress import track
from cytonet_pipeline.store.damage import mark, remedy_of
from cytonet_pipeline.store.integrity import faults_in
from cytonet_pipeline.store.paths import Store, result_folders
from cytonet_pipeline.store.seals import CLAIM, is_being_taken_over, is_sealed, pointers_in
from cytonet_pipeline.store.stamps import full_stamp, stamp_path
from cytonet_pipeline.store.tables import read_record
from cytonet_pipeline.store.takeover import results_without_digests


@dataclass(frozen=True)
class Examined:
    """What was found in a store.

    Attributes
    ----------
    results : int
        Results and parts of results with a stamp.
    files : int
        Files that were compared with it.
    bytes : int
        Their size.
    faults : tuple of str
        What is not as it was written, each with what makes it again.
    undigested : int
        Results of version 0.2.1, which cannot be compared.
    """

    results: int
    files: int
    bytes: int
    faults: tuple[str, ...]
    undigested: int


def examine(store: Store) -> Examined:
    """Read every file of every result and compare it with its stamp.

    What is found damaged is marked, so that the run that is advised makes it again.
    """
    # Once a store was taken over, a result without digests has lost them.
    taken_over = is_sealed(store.root / CLAIM)
    undigested = set() if taken_over else {folder for folder, _ in results_without_digests(store)}
    files = total = results = 0
    faults = list(_faults_of_pointers(store))
    for folder in track(result_folders(store), "reading results"):
        if folder in undigested:
            continue
        if not stamp_path(folder).exists():
            if any(folder.iterdir()):
                faults.append(_line(stamp_path(folder), "missing: the result was not finished, or lost its stamp"))
            continue
        for fault in faults_in(folder, digests=True, parts=False):
            mark(fault.path, fault.what)
            faults.append(_line(fault.path, fault.what))
        results += 1
        sizes = _sizes(folder)
        files, total = files + len(sizes), total + sum(sizes)
    return Examined(results, files, total, tuple(faults), len(undigested))


def _faults_of_pointers(store: Store) -> Iterator[str]:
    found = pointers_in(store.root)
    sealed = any(is_sealed(path) for path in found) and not is_being_taken_over(store.root)
    for path in found:
        try:
            read_record(path)
            if sealed and not is_sealed(path):
                yield _line(path, "its digest is missing")
        except StoreError as error:
            yield _line(path, error.what.removeprefix(f"{path}: ").rstrip("."))


def _sizes(folder: Path) -> list[int]:
    try:
        stamp = full_stamp(folder)
    except StoreError:
        return []
    return [record.bytes for record in ((stamp.files if stamp else None) or {}).values()]


def _line(path: Path, what: str) -> str:
    return f"{path}: {what}\n  to fix      {remedy_of(path)}"
