"""Whether the grey values of a scan are what the pipeline takes them for: of the whole range, and dark on light.

A camera of 12 bit fills a sixteenth of 16 bit, and fluorescence is light on dark. Either becomes a picture in which
tissue cannot be told from the slide, so both are measured, and the settings that help are named. What is
stated in the settings is not doubted again, or only pointed out.

The thresholds come from 154 scans (thumbnails of 512 px: Nissl, Merker and H&E, real and synthetic), their negatives,
and 96 pictures of gene expression, which are light on dark: both groups lie on either side of them.
"""

import math

import numpy as np
from scipy import ndimage

from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.pixels.tissue import otsu_threshold
from cytonet_pipeline.histology.quality.overview import Overview
from cytonet_pipeline.histology.scan import Scan
from cytonet_pipeline.settings import DatasetBlock

# Single hot or dead pixels do not count.
_PERCENTILES = (0.1, 99.9)
_MOST_VALUES = 1 << 22
# Of 256 grey levels 64 are few, 16 are too few to tell cells from each other.
_FEW, _TOO_FEW = 1 / 4, 1 / 16
_BITS_WITHOUT_LOSS = 8
_RIM = 0.02
_RIM_DARK_FROM = 0.7
_RIM_PERHAPS_DARK_FROM = 0.5
# Median of the standard deviation in 3 × 3 px, in units of the contrast between light and dark.
_SMOOTH, _TISSUE_FROM = 0.5, 0.04


def require_intensity(scan: Scan, overview: Overview, brain: str, block: DatasetBlock) -> str:
    """Refuse a scan whose grey values would be misread, and describe what a person should check; empty if nothing.

    Raises
    ------
    ScanError
        It uses too small a part of its range, or is light on dark, and no setting says that it is right as it is.
    """
    return " ".join(text for text in (_range(scan, brain, block), _polarity(scan, overview, brain, block)) if text)


def _range(scan: Scan, brain: str, block: DatasetBlock) -> str:
    """Check the part of its range that a scan uses."""
    window, full = block.window_of(brain), 2**scan.bits - 1
    if window is None and scan.bits <= _BITS_WITHOUT_LOSS:
        return ""
    lowest, highest = used_values(scan)
    if window is not None:
        if highest <= window[0] or lowest >= window[1]:
            raise ScanError(
                f"{scan.path}: its grey values, {lowest} to {highest}, lie outside of the window {list(window)}.",
                to_fix=f"correct `window` of {brain} in the experiments file",
            )
        return ""
    used = full - lowest if scan.white_is_zero else highest
    if used >= _FEW * full:
        return ""
    half = 2 ** math.ceil(math.log2(used + 2)) - 1
    better = [full - half, full] if scan.white_is_zero else [0, half]
    what = f"uses the grey values {lowest} to {highest} of 0 to {full}, {used * 256 // full} of 256 levels"
    fix = f"set `window: {{{brain}: {better}}}` in the experiments file"
    if used < _TOO_FEW * full:
        raise ScanError(f"{scan.path}: {what}.", to_fix=f"{fix}, or [0, {full}] if it is right as it is")
    return f"{scan.path.name} {what}; {fix}."


def _polarity(scan: Scan, overview: Overview, brain: str, block: DatasetBlock) -> str:
    if not is_light_on_dark(overview.picture):
        return ""
    stated = block.invert_of(brain)
    what = "light on dark: its rim is dark and smooth, and what lies in it is light"
    if stated is not None:
        return f"{scan.path.name} looks {what}, although `invert` is {str(stated).lower()}; look at it."
    raise ScanError(
        f"{scan.path}: is {what}.",
        to_fix=f"set `invert: {{{brain}: true}}` in the experiments file, or false if it is right as it is",
    )


def used_values(scan: Scan) -> tuple[int, int]:
    """Return the least and the greatest grey value of a scan before the window, without single pixels."""
    values = scan.sampled_values()
    values = values[:: max(1, values.size // _MOST_VALUES)]
    low, high = np.percentile(values, _PERCENTILES, method="nearest") if values.size else (0, 2**scan.bits - 1)
    return int(low), int(high)


def is_light_on_dark(picture: np.ndarray) -> bool:
    """Whether a thumbnail shows light tissue on a dark slide.

    A slide is smooth and reaches the rim, tissue has structure. Pictures full of tissue, or with a black frame around a
    light slide, are not light on dark.

    Parameters
    ----------
    picture : (H, W) uint8 array
    """
    if _dark_share_of_rim(picture) < _RIM_DARK_FROM:
        return False
    dark = picture <= otsu_threshold(picture)
    grey = picture.astype(np.float32)
    variance = ndimage.uniform_filter(grey**2, 3) - ndimage.uniform_filter(grey, 3) ** 2
    structure = np.sqrt(np.maximum(variance, 0)) / (np.median(grey[~dark]) - np.median(grey[dark]))
    inside = float(np.median(structure[~dark]))
    return inside > _TISSUE_FROM and float(np.median(structure[dark])) < _SMOOTH * inside


def may_be_light_on_dark(picture: np.ndarray) -> bool:
    """Tell from a smaller picture, (H, W) uint8, whether that of an overview might be light on dark."""
    return _dark_share_of_rim(picture) >= _RIM_PERHAPS_DARK_FROM


def may_use_few_values(picture: np.ndarray, bits: int, window: tuple[int, int] | None) -> bool:
    """Tell from a small picture, (H, W) uint8 of the whole range, whether its scan might use a small part of it."""
    return bits > _BITS_WITHOUT_LOSS and window is None and int(picture.max(initial=0)) < 2 * _FEW * 255


def _dark_share_of_rim(picture: np.ndarray) -> float:
    """Return the share of a picture's rim that is dark; 0 for a picture of one grey value."""
    dark = picture <= otsu_threshold(picture)
    if dark.all() or not dark.any():
        return 0.0
    margin = max(1, round(_RIM * min(picture.shape)))
    rim = np.ones(picture.shape, bool)
    rim[margin:-margin, margin:-margin] = False
    return float(dark[rim].mean())
