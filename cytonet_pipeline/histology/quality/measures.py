"""The quality of a scan from its overview and a few patches; `inventory.outliers` compares it with other sections."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cytonet_pipeline.histology.quality.damage import measure_damage
from cytonet_pipeline.histology.quality.overview import Overview
from cytonet_pipeline.histology.quality.picture_hash import picture_hash
from cytonet_pipeline.histology.scan import Scan

_PATCH_PX = 256
_PATCHES = 8
# A patch is at most this fraction of a small scan, so that it lies within tissue.
_PATCH_PART = 4
_SMALLEST_PATCH_PX = 16


@dataclass(frozen=True)
class Quality:
    """Quality figures of a scan.

    Attributes
    ----------
    tissue_fraction : float
        Share of the field of view that is tissue.
    focus : float or None
        Variance of the Laplacian over the variance of the grey values (both at full resolution), median over patches in
        tissue; the higher the sharper (LAPV in Pertuz et al. 2013, Pattern Recognition 46:1415, here normalised
        by contrast). It depends on the pixel size: compare within a series. None without tissue.
    background : int
        Median grey value of the bare slide.
    staining : float or None
        Median optical density of the tissue, log10(slide / grey value), in the overview. None without tissue.
    saturation : float or None
        Share of pixels that are 0 or 255, in the same patches as the focus: what was too dark or too light for the
        scanner. None without tissue.
    folds, tears, wide_tears : float
        See `damage`.
    picture_hash : str or None
        See `picture_hash`.
    """

    tissue_fraction: float
    focus: float | None
    background: int
    staining: float | None
    saturation: float | None
    folds: float
    tears: float
    wide_tears: float
    picture_hash: str | None


def measure_quality(scan: Scan, overview: Overview | None = None) -> Quality:
    """Measure a scan on its overview of 512 px and eight patches of 256 px at full resolution.

    Raises
    ------
    ScanError
        The scan is damaged where it is read.
    """
    overview = overview or Overview.of(scan)
    tissue = overview.tissue
    patches = _patches_in(tissue, scan)
    damage = measure_damage(overview)
    return Quality(
        tissue_fraction=float(tissue.mean()),
        focus=_focus(patches),
        background=overview.background,
        staining=float(np.median(overview.density[tissue])) if tissue.any() else None,
        saturation=float(np.mean((patches == 0) | (patches == 255))) if len(patches) else None,
        folds=damage.folds,
        tears=damage.tears,
        wide_tears=damage.wide_tears,
        picture_hash=picture_hash(overview),
    )


def _patches_in(tissue: np.ndarray, scan: Scan) -> np.ndarray:
    """Read patches spread over the tissue at full resolution, (N, size, size) uint8; none without tissue."""
    # Well inside the tissue: its edge is sharp in any scan.
    inner = ndimage.binary_erosion(tissue, iterations=2)
    rows, columns = np.nonzero(inner if inner.any() else tissue)
    short = min(scan.width_px, scan.height_px)
    size = min(_PATCH_PX, short, max(_SMALLEST_PATCH_PX, short // _PATCH_PART))
    if rows.size == 0:
        return np.empty((0, size, size), np.uint8)
    chosen = np.unique(np.linspace(0, rows.size - 1, _PATCHES).astype(int))
    scale = np.array([scan.width_px / tissue.shape[1], scan.height_px / tissue.shape[0]])
    centres = np.floor((np.stack([columns, rows], axis=1)[chosen] + 0.5) * scale)
    return scan.read_patches(centres, size, scan.pixel_um)


def _focus(patches: np.ndarray) -> float | None:
    grey = patches.astype(np.float32)
    figures = [float(ndimage.laplace(p).var() / p.var()) for p in grey if p.var() > 0]
    return float(np.median(figures)) if figures else None
