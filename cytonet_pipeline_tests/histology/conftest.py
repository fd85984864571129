from pathlib import Path

import numpy as np
import pytest
import tifffile


@pytest.fixture
def section_picture() -> np.ndarray:
    """A dark disc with cells on a light slide, like a small section."""
    y, x = np.mgrid[:300, :420]
    inside = (y - 150) ** 2 / 100**2 + (x - 210) ** 2 / 150**2 < 1
    cells = np.random.default_rng(1).integers(60, 200, (300, 420))
    return np.where(inside, cells, 240).astype(np.uint8)


@pytest.fixture
def write_scan(tmp_path):
    """Write an array as a TIFF and return its path; each call writes another file."""
    count = 0

    def write(pixels: np.ndarray, name: str = "", **options) -> Path:
        nonlocal count
        count += 1
        path = tmp_path / (name or f"scan{count}.tif")
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, pixels, **{"metadata": None, **options})
        return path

    return write
