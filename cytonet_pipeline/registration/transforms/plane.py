"""Warps of the scan plane: from points of a scan to the straightened plane; applied before a section's matrix.

Points are mm from the outer corner of the top-left pixel, x right and y down; there is no LPS here.
"""

from pathlib import Path
from typing import Literal

import numpy as np

from cytonet_pipeline.errors import TransformError
from cytonet_pipeline.registration.transforms.files import load_transform
from cytonet_pipeline.registration.transforms.point_transform import Affine, Chain, PointTransform

Origin = Literal["corner", "centre"]


def load_plane_transform(path: Path | str, origin: Origin = "corner", pixel_um: float | None = None) -> PointTransform:
    """Read a 2-D warp of the scan plane.

    Parameters
    ----------
    path : path
        A 2-D ITK transform, or a JSON chain of such transforms.
    origin : {"corner", "centre"}
        Origin of the warp's own coordinates: the outer corner of the top-left pixel, or its centre, as image
        registrations have it.
    pixel_um : float, optional
        Full-resolution pixel size (µm); needed for `centre`.

    Returns
    -------
    PointTransform
        From (N, 2) mm to (N, 2) mm, both with the origin at the corner.

    Raises
    ------
    TransformError
        The file cannot be used, or the pixel size is needed and unknown.
    """
    warp = load_transform(path, dimension=2)
    if origin == "corner":
        return warp
    if pixel_um is None:
        raise TransformError(
            f"{path}: its origin is the centre of a pixel, but the size of the scan's pixels is not known.",
            to_fix="write PixelSize into the scan's sidecar",
        )
    half_mm = pixel_um / 2000
    return Chain([_shift(-half_mm), warp, _shift(half_mm)])


def _shift(by_mm: float) -> Affine:
    return Affine(np.array([[1.0, 0.0, by_mm], [0.0, 1.0, by_mm], [0.0, 0.0, 1.0]]))
