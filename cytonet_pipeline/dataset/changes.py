"""Seeing that files of a brain have changed, without reading the brain.

Three looks, each dearer than the one before: at the times of a brain's folders and of its few tables and transforms
(microseconds), at size and time of each of its files (0.1 s for 7,000 sections), and at the brain itself
(`Brain.fingerprint`, two seconds). A file that is overwritten in place changes no folder: the second look finds it.
"""

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cytonet_pipeline.dataset import matrices
from cytonet_pipeline.dataset.areas import area_table_path
from cytonet_pipeline.dataset.brain import Brain
from cytonet_pipeline.dataset.brain_files import transform_candidates
from cytonet_pipeline.dataset.section_table import table_path
from cytonet_pipeline.dataset.withdrawals import withdrawals_path
from cytonet_pipeline.store import digest_of

# A file that is written and renamed changes its folder this soon after its own time (s).
_OF_ONE_WRITE_S = 5.0
_DERIVATIVES = ("registration", "segmentation", "annotation", "surfaces", "sections")
_WITH_IMAGES = ("segmentation", "annotation")


@dataclass(frozen=True)
class Files:
    """The files of a brain, as they lie in its folders.

    Attributes
    ----------
    digest : str
        Of names, sizes and times of change.
    last_change : float or None
        When a file or folder last changed (seconds since 1970); None without any.
    last_changed : str
        Its path.
    """

    digest: str
    last_change: float | None
    last_changed: str


def own_folders(root: Path, brain: str) -> list[Path]:
    """Return the folders in which the files of a brain lie, whether or not they exist; tables may name others."""
    return [root / f"sub-{brain}", *(root / "derivatives" / kind / f"sub-{brain}" for kind in _DERIVATIVES)]


def times_at_a_glance(root: Path, brain: str, others: Iterable[Path | str] = ()) -> str:
    """Return a digest of the times of a brain's folders, tables and transforms, and of other files or folders."""
    with_images = [root / f"sub-{brain}", *(root / "derivatives" / kind / f"sub-{brain}" for kind in _WITH_IMAGES)]
    folders = [*own_folders(root, brain), *(folder / "micr" for folder in with_images)]
    tables = [matrices.table_path(root, brain), table_path(root, brain), withdrawals_path(root, brain)]
    return times_of([*folders, *tables, *transform_candidates(root, brain), *others])


def times_of_shared(root: Path) -> str:
    """Return a digest of the times of the files that belong to all brains: the table of areas, sidecars further up."""
    sidecars = [path for folder in _shared_folders(root) for path in sorted(folder.glob("*.json"))]
    return times_of([area_table_path(root), *sidecars])


def times_of(paths: Iterable[Path | str]) -> str:
    """Return a digest of sizes and times of change of files and folders; absent ones count as such."""
    return digest_of([_size_and_time(os.fspath(path)) for path in paths])


def outside_of(brain: Brain) -> list[Path]:
    """Return the folders of images, and other files, that a brain reads and that lie outside of its own folders."""
    own = tuple(f"{folder}{os.sep}" for folder in own_folders(brain.root, brain.name))
    images = {os.fspath(p) for s in brain.sections for p in (s.scan, s.mask, s.annotation) if p is not None}
    folders = {os.path.dirname(path) for path in images if not path.startswith(own)}
    covered = folders | {os.fspath(folder) for folder in _shared_folders(brain.root)}
    sources = {os.fspath(path) for path in brain.sources}
    files = {path for path in sources if not path.startswith(own) and os.path.dirname(path) not in covered}
    return [Path(path) for path in sorted(folders | files)]


def walk_files(root: Path, brain: str) -> Files:
    """Look at every file of a brain's folders; those that its tables name elsewhere are not among them.

    A withdrawal does not count as a change: it must take effect at once, not when the brain has been quiet again.
    """
    digests, last, path = [], None, ""
    for folder in own_folders(root, brain):
        for place, entries in _walk(os.fspath(folder), set()):
            withdrawn = entries.pop(f"sub-{brain}_withdrawn.tsv", None)
            digests.append((place, entries))
            times = {name: time_s for name, (_, time_s) in entries.items()}
            if withdrawn is not None and abs(times[""] - withdrawn[1]) < _OF_ONE_WRITE_S:
                del times[""]  # The folder changed when that file was written.
            newest = max(times, key=times.__getitem__, default=None)
            if newest is not None and (last is None or times[newest] > last):
                last, path = times[newest], os.path.join(place, newest)
    return Files(digest_of(digests), last, path.rstrip(os.sep))


def _shared_folders(root: Path) -> list[Path]:
    return [root, root / "derivatives", root / "derivatives" / "annotation"]


def _size_and_time(path: str) -> tuple[int, int]:
    try:
        state = os.stat(path)
    except OSError:
        return -1, -1
    return state.st_size, state.st_mtime_ns


def _walk(place: str, seen: set[tuple[int, int]]) -> Iterator[tuple[str, dict[str, tuple[int, float]]]]:
    """Yield each folder with size and time of its files by name, and its own under the empty name.

    Links are followed: the scans of a brain may lie on another disk. A folder that has been seen is not entered again.
    """
    try:
        state = os.stat(place)
        with os.scandir(place) as found:
            listed = sorted(found, key=lambda entry: entry.name)
    except OSError:
        return
    if (state.st_dev, state.st_ino) in seen:
        return
    seen.add((state.st_dev, state.st_ino))
    entries, folders = {"": (0, state.st_mtime)}, []
    for entry in listed:
        try:
            if entry.is_dir():
                folders.append(entry.path)
                continue
            file = entry.stat()
            entries[entry.name] = file.st_size, file.st_mtime
        except OSError:  # vanished since it was listed, or a link that leads nowhere
            entries[entry.name] = -1, time.time() if not entry.is_symlink() else 0.0
    yield place, entries
    for folder in folders:
        yield from _walk(folder, seen)
