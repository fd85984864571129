"""Writer of OME-Zarr scans with the library `zarr`, which the pipeline does not use for reading."""

from pathlib import Path
from typing import Any

import numpy as np
import zarr


def write_ome_zarr(
    path: Path,
    levels: list[np.ndarray],
    *,
    version: int = 2,
    um: float | None = 1.0,
    unit: str = "micrometer",
    chunks: tuple[int, int] = (64, 64),
    **options: Any,
) -> Path:
    """Write a pyramid by NGFF 0.4 (`version` 2) or 0.5 (3); arrays are (y, x), (c, y, x) or (t, c, z, y, x)."""
    group = zarr.open_group(path, mode="w", zarr_format=version)
    axes = {2: "yx", 3: "cyx", 5: "tczyx"}[levels[0].ndim]
    for number, level in enumerate(levels):
        shape = (1,) * (level.ndim - 2) + chunks
        if "shards" in options:
            options["shards"] = (1,) * (level.ndim - 2) + options["shards"][-2:]
        array = group.create_array(str(number), shape=level.shape, chunks=shape, dtype=level.dtype, **options)
        array[:] = level
    scales = [[1.0] * (len(axes) - 2) + [(um or 1.0) * 2**number] * 2 for number in range(len(levels))]
    image: dict[str, Any] = {
        "axes": [{"name": a, "type": "space", **({"unit": unit} if a in "yx" and um else {})} for a in axes],
        "datasets": [
            {"path": str(number), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
            for number, scale in enumerate(scales)
        ],
    }
    if version == 2:
        group.attrs["multiscales"] = [{"version": "0.4", **image}]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    return path
