"""The stamp of a result, `inputs.json`: what it was made from, and size and digest of each of its files.

It is written last, so that it also says *complete*. Keys that begin with an underscore are the stamp's own, all others
are the inputs:

* `_files`: `bytes` and `digest` of each file beside the stamp, by name;
* `_parts`: folders below that have stamps of their own;
* `_drawn`: whether pictures that are drawn after the result are among the files;
* `_seal`: digest of all the rest.

Stamps of version 0.2.1 have none of them: such results are digested once (`takeover.py`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cytonet_pipeline.store.atomic import beside, json_text, store_explained, write_json
from cytonet_pipeline.store.damage import MARK, damaged, unreadable
from cytonet_pipeline.store.digest import as_json, digest_bytes, digest_file, digest_of

NAME = "inputs.json"
# Names of files that say something about a result and are not of it; `progress.json` is for those who watch a training.
_NOT_OF_RESULT = frozenset({NAME, f"_{NAME}", MARK, f"_{MARK}", "progress.json"})


@dataclass(frozen=True)
class FileRecord:
    """A file as it was written.

    Attributes
    ----------
    bytes : int
    digest : str
        As by `digest_file`.
    """

    bytes: int
    digest: str


@dataclass(frozen=True)
class Stamp:
    """The stamp of a result.

    Attributes
    ----------
    inputs : dict
        What it was made from.
    files : dict
        Its files, by name; None in a stamp of version 0.2.1.
    parts : tuple of str
        Names of folders below with stamps of their own.
    drawn : bool
        Whether the pictures that are drawn after the result are among the files.
    """

    inputs: dict[str, Any]
    files: Mapping[str, FileRecord] | None = None
    parts: tuple[str, ...] = ()
    drawn: bool = False
    path: Path = field(default_factory=Path, compare=False)

    def write(self) -> None:
        """Write it to its path."""
        files = {name: {"bytes": record.bytes, "digest": record.digest} for name, record in (self.files or {}).items()}
        own = {"_files": files, "_parts": list(self.parts), "_drawn": self.drawn}
        content = as_json({**self.inputs, **own})
        write_json(self.path, {**content, "_seal": digest_of(content)})


def write_stamp(folder: Path, inputs: Mapping[str, Any], *, drawn: bool = False) -> None:
    """Record what a result was made from, with size and digest of each file that is in its folder.

    Parameters
    ----------
    drawn : bool
        Whether the pictures that are drawn after the result are there.
    """
    parts = sorted(part.name for part in folder.iterdir() if part.is_dir() and stamp_path(part).exists())
    files = {path.name: record_of(path) for path in files_of_result(folder)}
    beside(folder, MARK).unlink(missing_ok=True)
    remove_stamp(folder)
    Stamp(dict(inputs), files, tuple(parts), drawn, beside(folder, NAME)).write()


def restamp(folder: Path, inputs: Mapping[str, Any]) -> None:
    """Record other inputs of the result in a folder, whose files stay; its pictures have to be drawn again."""
    stamp = full_stamp(folder)
    if stamp is not None and stamp.files is not None:
        Stamp(dict(inputs), stamp.files, stamp.parts, False, stamp.path).write()
    elif stamp is not None:
        write_stamp(folder, inputs)


def record_drawings(folder: Path) -> None:
    """Add the pictures that were drawn after a result to its stamp; without a stamp there is nothing to add to."""
    stamp = full_stamp(folder)
    if stamp is None or stamp.files is None:
        return
    drawings = {path.name: record_of(path) for path in files_of_result(folder) if is_drawing(path.name)}
    kept = {name: record for name, record in stamp.files.items() if not is_drawing(name)}
    Stamp(stamp.inputs, kept | drawings, stamp.parts, True, stamp.path).write()


def full_stamp(folder: Path) -> Stamp | None:
    """Read the stamp of the result in a folder; None if it is missing: the result is, or it is incomplete.

    Raises
    ------
    DamagedResult
        The stamp is not as it was written.
    """
    path = stamp_path(folder)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise unreadable(path, error, "stamp") from error
    if not isinstance(content, dict):
        raise damaged(path, "not a stamp")
    inputs = {key: value for key, value in content.items() if not key.startswith("_")}
    if len(inputs) == len(content):
        return Stamp(inputs, path=path)
    seal = content.pop("_seal", None)
    if seal != digest_of(content):
        raise damaged(path, "its digest is not the one that was recorded")
    files = {name: FileRecord(record["bytes"], record["digest"]) for name, record in content["_files"].items()}
    return Stamp(inputs, files, tuple(content["_parts"]), content["_drawn"], path)


def read_stamp(folder: Path) -> dict[str, Any] | None:
    """Return what the result in a folder was made from; None if it is missing or incomplete.

    Raises
    ------
    DamagedResult
        The stamp is not as it was written.
    """
    stamp = full_stamp(folder)
    return None if stamp is None else stamp.inputs


def remove_stamp(folder: Path) -> None:
    """Make the result in a folder count as missing."""
    for name in (beside(folder, NAME).name, NAME):
        with store_explained(folder / name):
            (folder / name).unlink(missing_ok=True)


def stamp_path(folder: Path) -> Path:
    """Return where the stamp of a folder lies: version 0.2.1 had it under another name above partitions."""
    path, earlier = beside(folder, NAME), folder / NAME
    return earlier if earlier.exists() and not path.exists() else path


def stamp_digest(folder: Path) -> str:
    """Return the digest of what the result in a folder was made from, as text of the form that 0.2.1 wrote."""
    return digest_bytes(json_text(read_stamp(folder)).encode())


def record_of(path: Path) -> FileRecord:
    """Measure a file."""
    return FileRecord(path.stat().st_size, digest_file(path))


def files_of_result(folder: Path) -> list[Path]:
    """List the files in a folder that belong to its result, sorted."""
    inside = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return sorted(path for path in inside if path.name not in _NOT_OF_RESULT)


def is_drawing(name: str) -> bool:
    """Return whether a file is a picture of a result: it can be drawn again, and no later step reads it."""
    return name.endswith((".png", ".svg", ".html"))
