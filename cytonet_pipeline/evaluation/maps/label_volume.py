"""Label volumes: predictions at points of sections, transferred to the voxels of the reference's cortex.

A voxel takes the prediction of the nearest point of its own hemisphere, up to half-way to the next section: beyond that
there is no data, and the voxel stays 0. The volume shows what was predicted on sections and does not interpolate:
between distant sections it has steps.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from cytonet_pipeline.registration import ReferenceSpace
from cytonet_pipeline.store import REFERENCE_MM, atomic_file, unreadable, verified

# Limit, however far apart sections are: a point farther away is on another gyrus.
MAX_DISTANCE_MM = 8.0
# nibabel is typed in part.
_nibabel: Any = nibabel


@dataclass(frozen=True, eq=False)
class LabelVolume:
    """Predicted areas on the atlas's grid.

    Attributes
    ----------
    labels : (X, Y, Z) uint16 array
        Index of the atlas table, so that hemispheres differ; 0: no prediction.
    probability : (X, Y, Z) float32 array
        Probability of the predicted area; 0 where there is none.
    affine : (4, 4) array
        Voxel to RAS mm.
    figures : dict
        Number of cortex voxels and of those with a prediction, and the limits of distance.
    """

    labels: np.ndarray
    probability: np.ndarray
    affine: np.ndarray
    figures: dict[str, object]


def label_volume(rows: pd.DataFrame, reference: ReferenceSpace, spacing_mm: float) -> LabelVolume:
    """Transfer predictions to the cortex of the reference.

    Parameters
    ----------
    rows : DataFrame
        `ref_x_mm` … `ref_z_mm`, `hemisphere`, `predicted_area`, `probability`, `reach_mm`.
    spacing_mm : float
        Spacing of the grid in a section: a voxel half-way to the next section may be that far off the nearest point.
    """
    atlas, affine = reference.atlas()
    side = _cortex_sides(reference)[atlas]  # 0: no cortex, 1: left, 2: right
    labels = np.zeros(atlas.shape, dtype=np.uint16)
    probability = np.zeros(atlas.shape, dtype=np.float32)
    limit_mm = np.minimum(np.hypot(rows["reach_mm"].to_numpy(np.float64), spacing_mm), MAX_DISTANCE_MM)
    for code, hemisphere in ((1, "L"), (2, "R")):
        of_side = (rows["hemisphere"] == hemisphere).to_numpy()
        if not of_side.any():
            continue
        ids = atlas_ids(rows["predicted_area"].to_numpy()[of_side], hemisphere, reference)
        voxels = np.argwhere(side == code)
        points_mm = voxels @ affine[:3, :3].T + affine[:3, 3]
        distance_mm, nearest = cKDTree(rows.loc[of_side, list(REFERENCE_MM)].to_numpy(np.float64)).query(
            points_mm, distance_upper_bound=MAX_DISTANCE_MM
        )
        reached = np.isfinite(distance_mm)
        reached[reached] = distance_mm[reached] <= limit_mm[of_side][nearest[reached]]
        at = tuple(voxels[reached].T)
        labels[at] = ids[nearest[reached]]
        probability[at] = np.where(labels[at] > 0, rows["probability"].to_numpy()[of_side][nearest[reached]], 0)
    return LabelVolume(labels, probability, affine, _figures(side > 0, labels, limit_mm, rows, reference))


def atlas_ids(areas: np.ndarray, hemisphere: str, reference: ReferenceSpace) -> np.ndarray:
    """Return atlas indices of areas of one hemisphere, (N,) uint16; 0 for areas that the atlas does not have."""
    table = reference.atlas_labels
    own = table[(table["hemisphere"] == hemisphere) & (table["kind"] == "area")]
    index_of = dict(zip(own["area"], own["index"], strict=True))
    return np.array([index_of.get(int(area), 0) for area in areas], dtype=np.uint16)


def label_table(reference: ReferenceSpace) -> pd.DataFrame:
    """Return the label table of such a volume: `index`, `name`, `hemisphere`, `area`, `color`."""
    table = reference.atlas_labels
    return table.loc[table["kind"] == "area", ["index", "name", "hemisphere", "area", "color"]].reset_index(drop=True)


def write_volume(path: Path, data: np.ndarray, affine: np.ndarray) -> None:
    """Write a NIfTI volume in the space of the reference."""
    image = _nibabel.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code="mni")
    image.set_qform(affine, code="mni")
    with atomic_file(path) as temporary:
        # nibabel compresses by the suffix of the name, and the temporary file has another.
        whole = temporary.with_name(f"{temporary.name}.nii.gz")
        try:
            nibabel.save(image, whole)
            whole.replace(temporary)
        finally:
            whole.unlink(missing_ok=True)


def read_volume(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read data and affine of a volume that `write_volume` wrote.

    Raises
    ------
    StoreError
        The file is missing or not readable.
    """
    try:
        image = _nibabel.load(verified(path))
        return np.asanyarray(image.dataobj), image.affine
    except (OSError, EOFError, ValueError, zlib.error, nibabel.filebasedimages.ImageFileError) as error:
        raise unreadable(path, error, "volume") from error


def _cortex_sides(reference: ReferenceSpace) -> np.ndarray:
    """Return by atlas index 1 for cortex of the left hemisphere, 2 for the right, 0 for anything else."""
    table = reference.atlas_labels
    sides = np.zeros(int(table["index"].max()) + 1, dtype=np.uint8)
    cortex = table[table["kind"].isin(["area", "gap"])]
    sides[cortex["index"]] = np.where(cortex["hemisphere"] == "L", 1, 2)
    return sides


def _figures(
    ribbon: np.ndarray, labels: np.ndarray, limit_mm: np.ndarray, rows: pd.DataFrame, reference: ReferenceSpace
) -> dict[str, object]:
    known = set(reference.atlas_labels.loc[reference.atlas_labels["kind"] == "area", "area"])
    unknown = sorted({int(area) for area in rows["predicted_area"].unique()} - known)
    return {
        "cortex_voxels": int(ribbon.sum()),
        "predicted_voxels": int((labels > 0).sum()),
        "predicted_share": round(float((labels > 0).sum() / max(1, ribbon.sum())), 4),
        "limit_mm_median": round(float(np.median(limit_mm)), 3) if len(limit_mm) else None,
        "limit_mm_most": MAX_DISTANCE_MM,
        "areas_not_in_atlas": unknown,
        "rule": "nearest grid point of the same hemisphere, at most half-way to the next section; else 0",
    }
