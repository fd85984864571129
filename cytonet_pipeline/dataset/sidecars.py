"""JSON sidecars of scans: the pixel size, in the file beside a scan or in one that it inherits from.

BIDS lets a sidecar lie further up, down from the data set's own folder, and lets its name leave entities out: it holds
for every scan whose name has its suffix and all of its entities. The nearest file that has a key counts.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cytonet_pipeline.dataset.files import read_json
from cytonet_pipeline.dataset.names import sidecar_of, split_extension
from cytonet_pipeline.dataset.once import once
from cytonet_pipeline.errors import DataFault

_SIZE, _UNIT = "PixelSize", "PixelSizeUnits"
_KEYS = (_SIZE, _UNIT)
_UM_PER_UNIT = {"um": 1.0, "µm": 1.0, "μm": 1.0, "mm": 1000.0, "nm": 0.001}
# 0.1 % of 100,000 px is 100 px: more than that is a mistake, not a rounded number.
ANISOTROPY = 1e-3
_ROOT_FILE = "dataset_description.json"
_MOST_FOLDERS = 6


def sidecar_pixel_um(scan: Path) -> float | None:
    """Read the edge of a scan's pixels (µm) from its sidecars; None if none gives it.

    Raises
    ------
    DataFault
        The size is not a positive number, its unit is unknown, the pixels are not square, or two sidecars of one folder
        contradict each other.
    """
    given = _given(scan)
    if _SIZE not in given:
        return None
    path, size = given[_SIZE]
    unit_path, unit = given.get(_UNIT, (path, None))
    if unit not in _UM_PER_UNIT:
        raise DataFault(f"{unit_path.name} gives PixelSizeUnits {unit!r}; write um, mm or nm.")
    # BIDS allows a third number, the thickness of the section.
    sizes = [size, size] if not isinstance(size, list) else size[:2]
    if len(sizes) != 2 or not all(_is_positive(edge) for edge in sizes):
        raise DataFault(f"{path.name} gives PixelSize {size!r}; write two positive numbers, width and height.")
    if abs(sizes[0] - sizes[1]) > ANISOTROPY * sizes[0]:
        raise DataFault(f"{path.name} gives pixels of {sizes[0]} × {sizes[1]}; resample the scan to square pixels.")
    return float(sizes[0]) * _UM_PER_UNIT[unit]


def sidecars_of(scan: Path) -> list[Path]:
    """Return the sidecars of a scan that are read: those beside it, and those that it has its pixel size from."""
    beside = _own(scan)
    try:
        inherited = [path for path, _ in _given(scan).values()]
    except DataFault:
        inherited = []
    return list(dict.fromkeys((*beside, *inherited)))


def _given(scan: Path) -> dict[str, tuple[Path, Any]]:
    """Return each key with its value and the nearest file that has it."""
    return once(("sidecars", scan), lambda: _read_given(scan))


def _read_given(scan: Path) -> dict[str, tuple[Path, Any]]:
    given: dict[str, tuple[Path, Any]] = {}
    for rank in _ranks(scan):
        here: dict[str, tuple[Path, Any]] = {}
        for path in rank:
            content = read_json(path)
            for key in _KEYS:
                if content.get(key) in (None, "n/a"):
                    continue
                other = here.setdefault(key, (path, content[key]))
                if other[1] != content[key] and key not in given:
                    raise DataFault(f"{other[0].name} and {path.name} give different {key}; leave one of them.")
        given = {**here, **given}
        if all(key in given for key in _KEYS):
            break
    return given


def _ranks(scan: Path) -> Iterator[list[Path]]:
    """Yield the sidecars that hold for a scan, nearest first, those of equal standing together."""
    own = _own(scan)
    if own:
        yield own
    stem, _ = split_extension(scan.name)
    entities, suffix = _entities(stem)
    if not entities:
        return
    for folder in _folders(scan.parent):
        by_number: dict[int, list[Path]] = {}
        for path in sorted(folder.glob(f"*{suffix}.json")):
            theirs, their_suffix = _entities(path.stem)
            if their_suffix == suffix and theirs.items() <= entities.items() and path not in own:
                by_number.setdefault(len(theirs), []).append(path)
        yield from (by_number[number] for number in sorted(by_number, reverse=True))


def _own(scan: Path) -> list[Path]:
    """Return the sidecars beside a scan that are there."""
    return once(("own sidecars", scan), lambda: [path for path in _beside(scan) if path.is_file()])


def _beside(scan: Path) -> list[Path]:
    """Return the names that a scan's own sidecar may have: without the extension, or without its last part."""
    return list(dict.fromkeys((sidecar_of(scan), scan.with_suffix(".json"))))


def _folders(folder: Path) -> list[Path]:
    """Return a folder and those above it, up to the data set's own; the folder alone outside of a data set."""
    folders = [folder, *folder.parents][:_MOST_FOLDERS]
    for number, above in enumerate(folders):
        if (above / _ROOT_FILE).is_file():
            return folders[: number + 1]
    return [folder]


def _entities(stem: str) -> tuple[dict[str, str], str]:
    *pairs, suffix = stem.split("_")
    entities = dict(pair.split("-", 1) for pair in pairs if "-" in pair)
    return (entities, suffix) if len(entities) == len(pairs) else ({"": ""}, "")


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
