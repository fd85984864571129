"""Which transform files are read otherwise than by version 0.2.1: only results from those are made again."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from cytonet_pipeline.errors import TransformError
from cytonet_pipeline.registration.nifti import UNREADABLE, apart_voxels, foreign_unit, read_header
from cytonet_pipeline.registration.transforms.files import members
from cytonet_pipeline.registration.transforms.nifti_field import SAME_VOXELS, follows_itk

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_otherwise(paths: Iterable[Path]) -> list[str]:
    """Return the names of the files, members of chains included, that 0.2.1 read otherwise or not at all, sorted.

    Headers alone are looked at. What ended the run in 0.2.1 has left no result, and is not listed.
    """
    files = {file for path in paths for file in _members(path)}
    return sorted(file.name for file in files if _is_read_otherwise(file))


def _members(path: Path) -> list[Path]:
    try:
        return members(path)
    except TransformError:
        return []


def _is_read_otherwise(path: Path) -> bool:
    try:
        if path.suffix == ".json":
            with path.open("rb") as stream:
                return stream.read(3) == _BYTE_ORDER_MARK
        if path.name.endswith((".nii", ".nii.gz")):
            return _is_field_read_otherwise(path, read_header(path))
    except UNREADABLE:
        pass
    return False


def _is_field_read_otherwise(path: Path, header: Any) -> bool:
    integers = header.get_data_dtype().kind in "iu"
    in_ras = int(header["intent_code"]) == 1006
    in_plane = [int(n) for n in header.get_data_shape()[2:]] == [1, 1, 2]
    if int(header["intent_code"]) not in {1006, 1007}:
        return False
    return bool(
        int(header["sizeof_hdr"]) == 540
        or foreign_unit(header)
        or bytes(header["intent_name"].item()).strip(b"\0 ")
        or (in_ras and (integers or in_plane))
        or (_is_doubtful(header) and not follows_itk(path, header))
    )


def _is_doubtful(header: Any) -> bool:
    """Tell whether ITK may place an image differently from nibabel, or not at all."""
    if apart_voxels(header) > SAME_VOXELS:
        return True
    axes = header.get_best_affine()[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    if not (lengths > 0).all():
        return False
    return bool(np.abs(np.triu((axes / lengths).T @ (axes / lengths), 1)).max() > SAME_VOXELS / 10)
