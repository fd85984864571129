"""Writers of pyramids, in the two layouts that scans have."""

from pathlib import Path

import numpy as np
import tifffile


def halved(picture: np.ndarray) -> np.ndarray:
    """Average over 2 × 2 pixels, leaving out an odd row or column."""
    height, width = (edge // 2 * 2 for edge in picture.shape[:2])
    return picture[:height, :width].reshape(height // 2, 2, width // 2, 2).mean((1, 3)).astype(picture.dtype)


def write_subifds(path: Path, levels: list[np.ndarray], **options) -> Path:
    """Write a pyramid whose coarser levels are SubIFDs of the first page."""
    with tifffile.TiffWriter(path) as writer:
        writer.write(levels[0], tile=(64, 64), subifds=len(levels) - 1, metadata=None, **options)
        for level in levels[1:]:
            writer.write(level, tile=(64, 64), subfiletype=1, metadata=None)
    return path


def write_pages(path: Path, levels: list[np.ndarray], **options) -> Path:
    """Write a pyramid whose coarser levels are further pages."""
    with tifffile.TiffWriter(path) as writer:
        for level in levels:
            writer.write(level, tile=(64, 64), metadata=None, **options)
    return path
