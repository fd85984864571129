"""Reading transforms from files.

A further file format is a function that reads it and an entry in `READERS`.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cytonet_pipeline.errors import TransformError
from cytonet_pipeline.registration.transforms.itk import read_itk_transform
from cytonet_pipeline.registration.transforms.nifti_field import read_vector_field
from cytonet_pipeline.registration.transforms.point_transform import Chain, PointTransform

# By the ending of the file name.
READERS: dict[str, Callable[[Path], PointTransform]] = {
    ".h5": read_itk_transform,
    ".mat": read_itk_transform,
    ".tfm": read_itk_transform,
    ".txt": read_itk_transform,
    ".nii.gz": read_vector_field,
    ".nii": read_vector_field,
}
# A chain names further files of any format.
_CHAIN = ".json"
_EXAMPLE = '{"transforms": [{"path": "0GenericAffine.mat", "invert": true}, {"path": "1InverseWarp.nii.gz"}]}'


def load_transform(path: Path | str, *, dimension: int = 3) -> PointTransform:
    """Read a transform of points.

    Parameters
    ----------
    path : path
        An ITK transform (.h5, .mat, .tfm), an ANTs displacement field (.nii.gz), or a chain (.json) of such files,
        relative to the chain, which applies its first member first.
    dimension : int
        3 for transforms between spaces (RAS mm), 2 for warps of the scan plane.

    Returns
    -------
    PointTransform
        Called with (N, dimension) mm it returns (N, dimension) mm.

    Raises
    ------
    TransformError
        The file is missing, damaged, of an unknown format, singular, or for another dimension.
    """
    return _load(Path(path), dimension, ())


def members(path: Path | str) -> list[Path]:
    """List all files that loading the transform `path` would read, itself included, in order of first use."""
    files: list[Path] = []
    _collect(Path(path).resolve(), files)
    return files


def _load(path: Path, dimension: int, opened: tuple[Path, ...]) -> PointTransform:
    if not path.is_file():
        raise TransformError(
            f"{path}: no such transform.", to_fix="put the file there, or correct the name in the table or chain"
        )
    transform = _load_chain(path, dimension, opened) if path.suffix == _CHAIN else _reader(path)(path)
    if transform.dimension != dimension:
        raise TransformError(
            f"{path}: a transform in {transform.dimension} dimensions where one in {dimension} is needed.",
            to_fix="warps of the scan plane belong into the table of matrices, transforms of space into the chain",
        )
    return transform


def _reader(path: Path) -> Callable[[Path], PointTransform]:
    for suffix, reader in READERS.items():
        if path.name.endswith(suffix):
            return reader
    raise TransformError(
        f"{path}: the ending of its name belongs to no known transform format.",
        to_fix=f"give a file that ends in {', '.join((*READERS, _CHAIN))}",
    )


def _load_chain(path: Path, dimension: int, opened: tuple[Path, ...]) -> PointTransform:
    here = path.resolve()
    if here in opened:
        loop = " → ".join(p.name for p in (*opened[opened.index(here) :], here))
        raise TransformError(f"{path}: the chain contains itself ({loop}).", to_fix="take the loop out of the .json")
    transforms, names = [], []
    for member in _entries(path):
        transform = _load(path.parent / member["path"], dimension, (*opened, here))
        transforms.append(transform.inverse() if member["invert"] else transform)
        names.append(f"{Path(member['path']).name}{' inverted' if member['invert'] else ''}")
    return transforms[0] if len(transforms) == 1 else Chain(transforms, names)


def _entries(path: Path) -> list[dict[str, Any]]:
    """Read the members of a JSON chain as `path` and `invert`, the first applied first."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError, RecursionError) as error:
        raise TransformError(f"{path}: not readable as JSON ({error}).", to_fix=f"write it like {_EXAMPLE}") from error
    entries = content.get("transforms") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries or not all(_is_entry(entry) for entry in entries):
        raise TransformError(f"{path}: not a chain of transforms.", to_fix=f"write it like {_EXAMPLE}")
    return [{"path": entry["path"], "invert": entry.get("invert", False)} for entry in entries]


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and set(entry) <= {"path", "invert"}
        and isinstance(entry.get("path"), str)
        and isinstance(entry.get("invert", False), bool)
    )


def _collect(path: Path, files: list[Path]) -> None:
    if path in files:
        return
    files.append(path)
    if path.suffix == _CHAIN and path.is_file():
        for member in _entries(path):
            _collect((path.parent / member["path"]).resolve(), files)
