"""Atomic writes: a killed run leaves nothing that a later step would read.

A file or folder is written under a temporary name beside its place and renamed when it is complete. Temporary names
start with a dot: pyarrow and every glob in this package skip them.
"""

import errno
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cytonet_pipeline.errors import StoreError

TEMPORARY_PREFIX = ".writing-"


def beside(folder: Path, name: str) -> Path:
    """Return where a record or picture lies beside the table in `folder`.

    In a Parquet table of several files, and in its partitions (`brain=B20/`), its name gets an underscore in front:
    programs that read the table as a data set (pyarrow, pandas, DuckDB, Spark) skip such files, and would fail on
    others.
    """
    of_table = folder.name.startswith(("brain=", f"{TEMPORARY_PREFIX}brain="))
    above_partitions = folder.parent.parent.name == "patch_embeddings"
    return folder / (f"_{name}" if of_table or above_partitions else name)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary path; rename it to `path` if the block succeeds, remove it if not.

    Raises
    ------
    StoreError
        The disk is full or the folder is not writable.
    """
    temporary = _temporary_beside(path)
    try:
        with store_explained(path, only_below=temporary):
            yield temporary
        with store_explained(path):
            _flush_to_disk(temporary)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder; let it take the place of `path` if the block succeeds, remove it if not.

    The old folder is moved aside and deleted after the new one stands in its place: a reader sees the old one, the new
    one, or for the moment between two renames none.
    """
    temporary = _temporary_beside(path)
    try:
        with store_explained(path):
            temporary.mkdir()
        with store_explained(path, only_below=temporary):
            yield temporary
        with store_explained(path):
            replaced = _temporary_beside(path)
            if path.exists():
                path.replace(replaced)
            temporary.replace(path)
            shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file that people can read and diff."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """Return the text of a JSON file that people can read and diff."""
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False, default=str) + "\n"


def _temporary_beside(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        known = _with_remedy(error, path)
        if known is not error:
            raise known from error
        # Some file systems (/proc, mounts that went away) refuse folders with whatever they have.
        raise StoreError(
            f"{path.parent}: cannot be made a folder ({error.strerror}).", to_fix="point CYTONET_STORE to another place"
        ) from error
    return path.parent / f"{TEMPORARY_PREFIX}{path.name}-{uuid.uuid4().hex[:8]}"


@contextmanager
def store_explained(path: Path, only_below: Path | None = None) -> Iterator[None]:
    """Turn errors of the file system into errors of the store, with their remedy.

    Parameters
    ----------
    only_below : Path, optional
        Errors that name another file are left alone: the block reads scans and references too, and writes temporary
        files elsewhere. A write into an open file names none; in these blocks that is a write into the store.
    """
    try:
        yield
    except OSError as error:
        name = error.filename
        if only_below is not None and isinstance(name, (str, os.PathLike)) and only_below not in _with_parents(name):
            raise
        raise _with_remedy(error, path) from error


def _with_parents(name: str | os.PathLike[str]) -> list[Path]:
    path = Path(name).absolute()
    return [path, *path.parents]


def _flush_to_disk(path: Path) -> None:
    # Without this a power cut after the rename can leave an empty file under the final name.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _with_remedy(error: OSError, path: Path) -> Exception:
    reasons = {
        errno.ENOSPC: ("the disk is full", "free some space there, then run again: what was finished is kept"),
        errno.EDQUOT: ("your quota is full", "free some space there, then run again: what was finished is kept"),
        errno.EACCES: ("no write permission", "give this user write permission, or point CYTONET_STORE elsewhere"),
        errno.EPERM: ("no write permission", "give this user write permission, or point CYTONET_STORE elsewhere"),
        errno.EROFS: ("the file system is read-only", "point CYTONET_STORE to a place that can be written"),
        errno.EEXIST: ("a part of the path is a file, not a folder", "point CYTONET_STORE to a folder"),
        errno.ENOTDIR: ("a part of the path is a file, not a folder", "point CYTONET_STORE to a folder"),
    }
    if error.errno not in reasons:
        return error
    what, fix = reasons[error.errno]
    full = error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is None
    return StoreError(f"{path}: cannot be written, {what}.", looked_for=_space_left(path) if full else (), to_fix=fix)


def _space_left(path: Path) -> list[str]:
    """Describe the space where a write that names no file may have failed: in the store or in the temporary folder."""
    places = {path.parent, Path(tempfile.gettempdir())}
    return [
        f"{place}: {shutil.disk_usage(place).free / 1e6:,.0f} MB free" for place in sorted(places) if place.exists()
    ]
