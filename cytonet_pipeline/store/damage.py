"""Describe a damaged file, and make its result count as stale.

Sizes are compared whenever currency is asked, digests only when a file is read. So whoever finds a file damaged leaves
a mark, `damaged.json`, beside it: the file as it was found. While that file lies there its result is not current.
"""

import json
import logging
from pathlib import Path

from cytonet_pipeline.errors import DamagedResult, StoreError
from cytonet_pipeline.store.atomic import beside, write_json

MARK = "damaged.json"
_OF_BRAINS = ("section_scans", "colin27_transforms", "patch_index")
_OF_ENCODERS = ("patch_embeddings", "linear_probes", "umap", "area_maps")
_log = logging.getLogger(__name__)


def damaged(path: Path, why: str) -> DamagedResult:
    """Return the error for a damaged file, with what makes its result again; and leave a mark beside the file."""
    mark(path, why)
    return DamagedResult(f"{path}: damaged ({why}).", to_fix=remedy_of(path))


def mark(path: Path, why: str) -> None:
    """Note that a file of a store is damaged. A store that cannot be written is left as it is."""
    place = beside(path.parent, MARK)
    # Not while a new result takes the folder's place: writing would make the folder again.
    if root_of(path) is None or not place.parent.is_dir() or is_pointer(path):
        return
    try:
        write_json(place, {**marked(path.parent), path.name: {"found": why, "identity": identity_of(path)}})
    except Exception as error:  # A read-only store, a full disk: the fault itself is what the reader must learn.
        _log.debug("%s: not written: %s", place, error)


def marked(folder: Path) -> dict[str, dict[str, object]]:
    """Return what was found damaged in a folder, by name of the file."""
    try:
        content = json.loads(beside(folder, MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def identity_of(path: Path) -> list[int] | None:
    """Return what changes when a file is replaced or written, also by a copy with its old time; None: no such file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def unreadable(path: Path, error: Exception, what: str) -> StoreError:
    """Return the error for a file that could not be read as `what`, with its remedy.

    A fault of the file system (no permission, a server away) says nothing about the result: it stays current.
    """
    if isinstance(error, StoreError):
        return error
    if isinstance(error, FileNotFoundError):
        return StoreError(f"{path}: not there.", to_fix=remedy_of(path))
    if isinstance(error, OSError) and error.errno is not None:
        return StoreError(
            f"{path}: cannot be read ({error.strerror}).", to_fix="give this user read permission, or repair the disk"
        )
    first_line = (str(error).splitlines() or [type(error).__name__])[0]
    return damaged(path, f"not a readable {what}: {first_line}")


def remedy_of(path: Path) -> str:
    """Return what makes a file of the store again."""
    command = command_for(path)
    if path.name == "store.json":
        return "restore it from a copy, or delete it: the next run writes it again from the settings"
    if path.name == "use.json":
        return "restore it from a copy, or delete it: no version is pinned then"
    if "encoders" in path.parts and path.suffix == ".safetensors":
        return f"restore it from a copy, or train it again with: {command}"
    return f"make it again with: {command}"


def command_for(path: Path) -> str:
    """Return the command that makes a file of the store again."""
    root = root_of(path)
    inside = path.relative_to(root).parts if root else ()
    if len(inside) > 1 and inside[0] in _OF_BRAINS:
        return f"cytonet run --brains {inside[1].removeprefix('brain=')}"
    if len(inside) > 1 and inside[0] in (*_OF_ENCODERS, "encoders"):
        return f"cytonet run --encoders {inside[1]}"
    if len(inside) == 2 and inside[0] == "training_sets":
        return f"cytonet run --encoders {inside[1].removesuffix('.json')}"
    return "cytonet run"


def is_pointer(path: Path) -> bool:
    """Return whether a file is a record beside no result: what belongs to the store, or which version is wanted."""
    return path.name in ("store.json", "current.json", "use.json") or path.parent.name == "training_sets"


def root_of(path: Path) -> Path | None:
    """Return the store that a file lies in."""
    return next((folder for folder in path.parents if (folder / "store.json").exists()), None)
