"""How good a scan is, from a thumbnail and a few patches: tissue, focus, background."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cytonet_pipeline.histology.scan import Scan
from cytonet_pipeline.histology.tissue import tissue_of

_THUMBNAIL_PX = 512
_PATCH_PX = 256
_PATCHES = 8


@dataclass(frozen=True)
class Quality:
    """What the survey says of a scan's quality.

    Attributes
    ----------
    tissue_fraction : float
        Share of the field of view that is tissue.
    focus : float or None
        Variance of the Laplacian over the variance of the grey values (both at full resolution), median over patches in
        tissue; the higher the sharper. It depends on the pixel size: compare within a series. None without tissue.
    background : int
        Median grey value of the bare slide.
    """

    tissue_fraction: float
    focus: float | None
    background: int


def measure_quality(scan: Scan) -> Quality:
    """Judge a scan by a thumbnail of 512 px and eight patches of 256 px at full resolution.

    Raises
    ------
    ScanError
        The scan is damaged where it is read.
    """
    tissue = tissue_of(scan.thumbnail(_THUMBNAIL_PX), scan.background)
    return Quality(float(tissue.mean()), _focus(scan, tissue), scan.background)


def _focus(scan: Scan, tissue: np.ndarray) -> float | None:
    # Well inside the tissue: its edge is sharp in any scan.
    inner = ndimage.binary_erosion(tissue, iterations=2)
    rows, columns = np.nonzero(inner if inner.any() else tissue)
    if rows.size == 0:
        return None
    chosen = np.unique(np.linspace(0, rows.size - 1, _PATCHES).astype(int))
    scale = np.array([scan.width_px / tissue.shape[1], scan.height_px / tissue.shape[0]])
    centres = np.floor((np.stack([columns, rows], axis=1)[chosen] + 0.5) * scale)
    size = min(_PATCH_PX, scan.width_px, scan.height_px)
    patches = scan.read_patches(centres, size, scan.pixel_um).astype(np.float32)
    figures = [float(ndimage.laplace(p).var() / p.var()) for p in patches if p.var() > 0]
    return float(np.median(figures)) if figures else None
