"""A real series of sections as a brain of the data set, and faults to plant into it.

67 Nissl sections of a mouse brain, 20 µm apart, as thumbnails of 59 µm; sections 421 to 423 are missing. They come as
JPEG and become TIFFs here.
"""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from PIL import Image
from scipy import ndimage

from cytonet_pipeline.dataset.matrices import COLUMNS

PIXEL_UM = 58.88
STEP_MM = 0.02


class Serial:
    """The brain in a folder; every picture can be replaced."""

    def __init__(self, pictures: Path, root: Path) -> None:
        self.root = root
        self.pictures = {
            re.findall(r"(\d+)\.jpg", path.name)[0]: np.asarray(Image.open(path)) for path in pictures.glob("*.jpg")
        }
        (root / "sub-M01/micr").mkdir(parents=True)
        (root / "dataset_description.json").write_text('{"Name": "Serial", "BIDSVersion": "1.10.0"}')
        for sample, picture in self.pictures.items():
            self.write(sample, picture)
        self._write_matrices()

    def write(self, sample: str, picture: np.ndarray, **options: object) -> None:
        """Give a sample another picture."""
        path = self.root / f"sub-M01/micr/sub-M01_sample-{sample}_stain-nissl_BF.tif"
        tifffile.imwrite(path, picture, photometric="rgb", metadata=None, **options)
        path.with_suffix(".json").write_text(json.dumps({"PixelSize": PIXEL_UM, "PixelSizeUnits": "um"}))

    def _write_matrices(self) -> None:
        folder = self.root / "derivatives/registration/sub-M01"
        folder.mkdir(parents=True)
        rows = []
        for sample in sorted(self.pictures):
            matrix = np.array([[1, 0, 0, -5.0], [0, 0, -1, int(sample) * STEP_MM], [0, -1, 0, 4.0]])
            rows.append({"sample_id": sample, **dict(zip(COLUMNS, matrix.ravel(), strict=True))})
        table = folder / "sub-M01_from-scan_to-brain_mode-points_xfm.tsv"
        pd.DataFrame(rows).to_csv(table, sep="\t", index=False)


def blurred(picture: np.ndarray, sigma_px: float = 1.0) -> np.ndarray:
    """Blur a picture as if out of focus."""
    return ndimage.gaussian_filter(picture, (sigma_px, sigma_px) + (0,) * (picture.ndim - 2))


def stained(picture: np.ndarray, factor: float) -> np.ndarray:
    """Multiply the stain, by Beer and Lambert."""
    slide = slide_of(picture)
    return np.clip(slide * (picture / slide) ** factor, 0, 255).round().astype(np.uint8)


def clipped(picture: np.ndarray) -> np.ndarray:
    """Clip a picture to black and white, as if exposed for a quarter of the range."""
    return np.clip((picture - (slide_of(picture) - 70.0)) * (255 / 60), 0, 255).astype(np.uint8)


def with_line(picture: np.ndarray, grey: float, width_px: float) -> np.ndarray:
    """Draw a straight line of one grey value down the middle of the tissue, over three fifths of it: fold or tear."""
    rows, columns = extent(picture)
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    top, bottom = np.quantile(rows, [0.0, 0.65])
    start, end = np.quantile(columns, [0.42, 0.55])
    across = x - (start + (y - top) / (bottom - top) * (end - start))
    changed = picture.copy()
    changed[(np.abs(across) < width_px / 2) & (y >= top) & (y <= bottom)] = round(grey)
    return changed


def torn_off(picture: np.ndarray) -> np.ndarray:
    """Remove the right two fifths of the tissue."""
    changed = picture.copy()
    _, columns = extent(picture)
    changed[:, round(float(np.quantile(columns, 0.6))) :] = round(slide_of(picture))
    return changed


def extent(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns that hold tissue."""
    grey = picture if picture.ndim == 2 else picture.mean(axis=2)
    tissue = grey < slide_of(picture) - 12
    return np.flatnonzero(tissue.any(axis=1)), np.flatnonzero(tissue.any(axis=0))


def slide_of(picture: np.ndarray) -> float:
    """Return the grey value of the slide."""
    return float(np.percentile(picture, 75))
