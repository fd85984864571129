"""The files of a reference folder: found by their TemplateFlow names, read, and checked against one another.

Every function raises ReferenceSpaceError with the name of the faulty file.
"""

import json
from pathlib import Path
from typing import Any, Literal

import nibabel
import numpy as np
import pandas as pd

from cytonet_pipeline.errors import ReferenceSpaceError
from cytonet_pipeline.registration.reference.cortex import HEMISPHERES
from cytonet_pipeline.registration.reference.meshes import Mesh
from cytonet_pipeline.registration.reference.volumes import Volume

DESCRIPTION = "template_description.json"
SurfaceKind = Literal["pial", "white", "inflated"]
_SURFACE_KINDS: tuple[SurfaceKind, ...] = ("pial", "white", "inflated")
_LABEL_COLUMNS = ("index", "name", "hemisphere", "area", "color", "kind")
_KINDS = frozenset({"area", "gap", "subcortical"})
_TO_FIX = "point CYTONET_REFERENCE to the whole folder tpl-MNIColin27 (docs/reference-space.md)"


def find_files(folder: Path) -> dict[str, Path]:
    """Find every file of the reference, by what it is; the single atlas is found by its name."""
    if not folder.is_dir():
        raise ReferenceSpaceError(f"{folder}: no such reference folder.", to_fix=_TO_FIX)
    template = folder.name if folder.name.startswith("tpl-") else "tpl-MNIColin27"
    atlases = sorted(folder.glob(f"{template}_atlas-*_dseg.nii.gz"))
    if len(atlases) != 1:
        raise ReferenceSpaceError(
            f"{folder}: holds {len(atlases)} atlases ({', '.join(p.name for p in atlases) or 'none'}), expected one.",
            looked_for=str(folder / f"{template}_atlas-*_dseg.nii.gz"),
            to_fix="leave exactly one atlas in the folder",
        )
    paths = {
        "t1w": folder / f"{template}_res-01_T1w.nii.gz",
        "mask": folder / f"{template}_res-01_desc-brain_mask.nii.gz",
        "atlas": atlases[0],
        "table": atlases[0].with_name(atlases[0].name.removesuffix(".nii.gz") + ".tsv"),
    }
    for hemi in HEMISPHERES:
        for kind in _SURFACE_KINDS:
            paths[f"hemi-{hemi}_{kind}"] = folder / f"{template}_hemi-{hemi}_{kind}.surf.gii"
    missing = [path for path in paths.values() if not path.is_file()]
    if missing:
        names = ", ".join(path.name for path in missing)
        raise ReferenceSpaceError(f"{folder}: {names} missing.", looked_for=[str(p) for p in missing], to_fix=_TO_FIX)
    return paths


def read_description(folder: Path) -> dict[str, Any]:
    """Read the optional `template_description.json`; empty without one."""
    path = folder / DESCRIPTION
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReferenceSpaceError(f"{path}: not readable as JSON ({error}).", to_fix="correct or delete it") from error
    return content if isinstance(content, dict) else {}


def read_atlas_table(path: Path) -> pd.DataFrame:
    """Read the label table of the atlas, checked row by row."""
    try:
        table = pd.read_csv(path, sep="\t", keep_default_na=False)
        missing = [column for column in _LABEL_COLUMNS if column not in table]
        if missing:
            raise ReferenceSpaceError(f"{path}: column {', '.join(missing)} missing.", to_fix=f"needs {_LABEL_COLUMNS}")
        table = table[list(_LABEL_COLUMNS)].astype({"index": "int32", "area": "int32"})
    except (ValueError, OSError) as error:
        raise ReferenceSpaceError(f"{path}: not a readable table ({error}).", to_fix="tab-separated, UTF-8") from error
    wrong = {
        "index": (table["index"] <= 0) | table["index"].duplicated(),
        "hemisphere": ~table["hemisphere"].isin(HEMISPHERES),
        "kind": ~table["kind"].isin(_KINDS),
    }
    for column, rows in wrong.items():
        if rows.any():
            value = table.loc[rows, column].iloc[0]
            raise ReferenceSpaceError(f"{path}: {column} {value!r} is not allowed or occurs twice.")
    return table


def check_labels(paths: dict[str, Path], labels: pd.DataFrame, atlas: Volume) -> None:
    """Refuse an atlas volume and a label table that do not belong together."""
    present = np.unique(atlas.data)
    unknown = np.setdiff1d(present, [0, *labels["index"]])
    if len(unknown):
        raise ReferenceSpaceError(
            f"{paths['atlas']}: labels {unknown[:8].tolist()} are not in {paths['table'].name}.",
            to_fix="take volume and table from the same release; ids above 255 need more than 8 bits",
        )
    absent = np.setdiff1d(labels["index"], present)
    if len(absent) > len(labels) // 2:
        raise ReferenceSpaceError(
            f"{paths['table']}: {len(absent)} of {len(labels)} labels do not occur in {paths['atlas'].name}.",
            to_fix="take volume and table from the same release; ids above 255 need more than 8 bits",
        )


def read_surface(path: Path) -> Mesh:
    """Read a GIFTI surface."""
    try:
        image: Any = nibabel.load(path)
        vertices = image.agg_data("NIFTI_INTENT_POINTSET")
        faces = image.agg_data("NIFTI_INTENT_TRIANGLE")
    except Exception as error:  # nibabel's GIFTI reader passes on what expat, zlib and numpy raise
        raise ReferenceSpaceError(f"{path}: not a readable GIFTI surface ({error}).", to_fix="copy it again") from error
    if not isinstance(vertices, np.ndarray) or not isinstance(faces, np.ndarray) or len(faces) == 0:
        raise ReferenceSpaceError(f"{path}: needs one point set and one set of triangles.", to_fix="copy it again")
    mesh = Mesh(vertices.astype(np.float64), faces.astype(np.int64))
    if not np.isfinite(mesh.vertices_mm).all() or faces.min() < 0 or faces.max() >= len(vertices):
        raise ReferenceSpaceError(f"{path}: triangles or vertices out of range.", to_fix="copy it again")
    return mesh


def check_surfaces(paths: dict[str, Path], meshes: dict[str, Mesh], mask: Volume) -> None:
    """Refuse surfaces of another space, and inflated surfaces that do not match the white ones."""
    low, high = mask.bounds_mm()
    for hemi in HEMISPHERES:
        for kind in ("pial", "white"):
            key = f"hemi-{hemi}_{kind}"
            vertices = meshes[key].vertices_mm
            if (vertices.mean(axis=0) < low).any() or (vertices.mean(axis=0) > high).any():
                raise ReferenceSpaceError(
                    f"{paths[key]}: lies outside the brain mask's volume; it belongs to another space.",
                    to_fix="give surfaces in RAS mm of the same template",
                )
        white, inflated = meshes[f"hemi-{hemi}_white"], meshes[f"hemi-{hemi}_inflated"]
        if len(white.vertices_mm) != len(inflated.vertices_mm):
            raise ReferenceSpaceError(
                f"{paths[f'hemi-{hemi}_inflated']}: {len(inflated.vertices_mm)} vertices, the white surface has "
                f"{len(white.vertices_mm)}.",
                to_fix="take both from the same reconstruction: they share their vertices",
            )
