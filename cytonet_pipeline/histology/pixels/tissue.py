"""Tissue and bare slide told apart, for a stain that is dark on light."""

import numpy as np
from scipy import ndimage

# Light and dark that differ by less (grey values) are noise of an empty slide, not tissue on one.
_LEAST_CONTRAST = 8.0


def otsu_classes(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split a picture of uint8 into its dark and light pixels by the threshold of Otsu (1979); one class may be empty.

    A picture of one grey value is all light.
    """
    threshold = otsu_threshold(picture)
    return picture[picture <= threshold], picture[picture > threshold]


def otsu_threshold(picture: np.ndarray) -> int:
    """Return the grey value up to which a pixel is dark: the variance between classes is greatest there; -1 if none."""
    counts = np.bincount(picture.ravel(), minlength=256).astype(np.float64)
    values = np.arange(256)
    dark, total = np.cumsum(counts), counts.sum()
    dark_sum = np.cumsum(counts * values)
    light = total - dark
    possible = (dark > 0) & (light > 0)
    if not possible.any():
        return -1
    with np.errstate(divide="ignore", invalid="ignore"):
        between = dark * light * (dark_sum / dark - (dark_sum[-1] - dark_sum) / light) ** 2
    return int(np.argmax(np.where(possible, between, -1.0)))


def tissue_of(picture: np.ndarray, background: int) -> np.ndarray:
    """Find the pixels of a thumbnail that are tissue: darker than half way between the slide and typical tissue.

    Parameters
    ----------
    picture : (H, W) uint8 array
        Thumbnail; cells should be smaller than its pixels.
    background : int
        Grey value of the bare slide.

    Returns
    -------
    (H, W) bool array
    """
    # Light tissue (white matter) lies nearer to the slide than to the darkest cells: the threshold follows the median
    # of all that is clearly not slide, not Otsu's, which may fall between white matter and cortex.
    smooth = ndimage.uniform_filter(picture.astype(np.float32), 3, mode="nearest")
    dark = smooth[smooth < background - _LEAST_CONTRAST]
    if dark.size == 0:
        return np.zeros(picture.shape, bool)
    threshold = background - max(_LEAST_CONTRAST, (background - float(np.median(dark))) / 2)
    return np.asarray(smooth < threshold)
