"""Average values of patches onto the white surface of the reference, and write them as GIFTI files."""

from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

import nibabel
import numpy as np
from scipy.spatial import cKDTree

from cytonet_pipeline.store import atomic_file, unreadable, verified

# With a smaller radius a vertex depends on a single patch, even of a dense sample; with a larger one, on other gyri.
_MIN_RADIUS_MM, _MAX_RADIUS_MM = 4.0, 10.0
# Share of the vertices that are to have a patch in reach.
_COVERED_PERCENT = 90
# nibabel exports these without saying so to type checkers.
_gifti: Any = nibabel.gifti
_STRUCTURES = {"L": "CortexLeft", "R": "CortexRight"}


def reach_mm(vertices_mm: np.ndarray, points_mm: np.ndarray) -> float:
    """Return the radius at which most vertices (V, 3) have one of the points (N, 3) in reach, 4 to 10 mm."""
    if len(points_mm) == 0:
        return _MAX_RADIUS_MM
    distance_mm, _ = cKDTree(points_mm).query(vertices_mm)
    wanted_mm = np.percentile(distance_mm, _COVERED_PERCENT)
    return round(float(np.clip(wanted_mm, _MIN_RADIUS_MM, _MAX_RADIUS_MM)), 1)


def onto_surface(vertices_mm: np.ndarray, points_mm: np.ndarray, values: np.ndarray, radius_mm: float) -> np.ndarray:
    """Average values onto vertices, weighted by a Gaussian of the straight distance (sigma: half the radius).

    Distances are not measured along the surface: where the banks of a sulcus touch, they share patches.

    Parameters
    ----------
    vertices_mm : (V, 3) array
    points_mm : (N, 3) array
    values : (N,) array
    radius_mm : float
        Patches farther away do not count.

    Returns
    -------
    (V,) float32 array
        NaN at vertices without a patch in reach.
    """
    if len(points_mm) == 0:
        return np.full(len(vertices_mm), np.nan, dtype=np.float32)
    near = cKDTree(vertices_mm).sparse_distance_matrix(cKDTree(points_mm), radius_mm, output_type="ndarray")
    weights = np.exp(-0.5 * np.square(near["v"] / (radius_mm / 2)))
    total = np.bincount(near["i"], weights, len(vertices_mm))
    weighted = np.bincount(near["i"], weights * np.asarray(values, dtype=np.float64)[near["j"]], len(vertices_mm))
    return np.divide(weighted, total, out=np.full(len(vertices_mm), np.nan), where=total > 0).astype(np.float32)


def write_func(path: Path, values: np.ndarray, hemisphere: str, metadata: dict[str, str]) -> None:
    """Write values of vertices as `.func.gii`, with metadata."""
    meta = _gifti.GiftiMetaData({"AnatomicalStructurePrimary": _STRUCTURES[hemisphere], **metadata})
    array = _gifti.GiftiDataArray(values.astype(np.float32), intent="NIFTI_INTENT_NONE", datatype="NIFTI_TYPE_FLOAT32")
    with atomic_file(path) as temporary:
        temporary.write_bytes(_gifti.GiftiImage(darrays=[array], meta=meta).to_bytes())


def read_func(path: Path) -> np.ndarray:
    """Read values of vertices from a `.func.gii`, (V,) float32.

    Raises
    ------
    StoreError
        The file is missing or not readable.
    """
    try:
        return np.asarray(_gifti.GiftiImage.from_bytes(verified(path).read_bytes()).darrays[0].data, dtype=np.float32)
    except (OSError, IndexError, ValueError, ExpatError, nibabel.filebasedimages.ImageFileError) as error:
        raise unreadable(path, error, "surface map") from error
