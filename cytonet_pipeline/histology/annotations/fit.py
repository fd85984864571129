"""Whether a mask or annotation belongs to a section: it lies on tissue, and its border follows the tissue's edge.

Two figures from a thumbnail, because neither is enough: nine tenths of a neighbouring section's mask may lie on tissue,
and the border of the right mask runs through tissue where it leaves the pial surface.

Measured by giving every section the masks of all other sections of its brain. Anatomy of Colin-27, 12.7 mm between
sections (396 pairs): 99 % of the wrong masks refused, the others flagged. Synthetic brains (528 pairs): 87 % refused,
the others flagged. No right mask was refused or flagged (on tissue at least 0.99, border at the edge at least 0.26).
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.annotations.plane import PlaneLabels
from cytonet_pipeline.histology.quality.overview import Overview
from cytonet_pipeline.histology.scan import Scan

FIT_PX = 320
_NEAR_PX = 2
_CERTAINLY_WRONG_BELOW = 0.7
_RIGHT_ABOVE = 0.95
_WRONG_BORDER_BELOW, _DOUBTFUL_BORDER_BELOW = 0.3, 0.2


@dataclass(frozen=True)
class Fit:
    """How labels lie on a scan: share of them on tissue, and share of their border at the tissue's edge; 0 to 1."""

    on_tissue: float
    border_at_edge: float

    @property
    def wrong(self) -> bool:
        """Whether the labels clearly belong to another section."""
        off_tissue = self.on_tissue < _RIGHT_ABOVE and self.border_at_edge < _WRONG_BORDER_BELOW
        return self.on_tissue < _CERTAINLY_WRONG_BELOW or off_tissue

    @property
    def doubtful(self) -> bool:
        """Whether a person should check."""
        return self.wrong or self.on_tissue < _RIGHT_ABOVE or self.border_at_edge < _DOUBTFUL_BORDER_BELOW

    def __str__(self) -> str:
        return (
            f"{self.on_tissue:.0%} of it lies on tissue, {self.border_at_edge:.0%} of its border at the tissue's edge"
        )


def fit_of(labels: PlaneLabels, scan: Scan, overview: Overview | None = None) -> Fit:
    """Measure how labels lie on the tissue of a scan; a perfect fit where there is nothing to compare.

    Parameters
    ----------
    overview : Overview, optional
        Overview of the scan, 320 px wide, if there is one already.
    """
    overview = overview or Overview.of(scan, FIT_PX)
    tissue = overview.tissue
    height, width = tissue.shape
    x_mm = (np.arange(width) + 0.5) * (overview.width_mm / width)
    y_mm = (np.arange(height) + 0.5) * (overview.height_mm / height)
    labelled = labels.at_mm(x_mm[None, :], y_mm[:, None]) > 0
    if not labelled.any():
        return Fit(1.0, 1.0)
    border = labelled & ~ndimage.binary_erosion(labelled, border_value=1)
    edge = ndimage.binary_dilation(tissue) ^ ndimage.binary_erosion(tissue, border_value=1)
    near = ndimage.distance_transform_edt(~edge) <= _NEAR_PX if edge.any() else np.zeros_like(edge)
    # Labels of a scan without any slide around the tissue have no edge to follow.
    at_edge = float(near[border].mean()) if border.any() and edge.any() else 1.0
    return Fit(float(tissue[labelled].mean()), at_edge)


def require_fit(labels: PlaneLabels, scan: Scan, overview: Overview | None = None) -> Fit:
    """Measure how labels lie on a scan, and refuse those of another section.

    Raises
    ------
    ScanError
        The labels belong to another section.
    """
    fit = fit_of(labels, scan, overview)
    if fit.wrong:
        raise ScanError(
            f"{labels.path}: {fit}; it belongs to another section than {scan.path.name}.",
            to_fix="give this section its own image, not mirrored and over the whole field of view",
        )
    return fit
