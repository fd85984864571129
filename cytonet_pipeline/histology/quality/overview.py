"""The overview of a scan: thumbnail, tissue, grey value of the slide. Read once, measured many times."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cytonet_pipeline.histology.pixels.tissue import tissue_of
from cytonet_pipeline.histology.scan import Scan

OVERVIEW_PX = 512


@dataclass(frozen=True, eq=False)
class Overview:
    """A scan as a small picture.

    Attributes
    ----------
    picture : (H, W) uint8 array
        Thumbnail, 512 px wide or as wide as the scan.
    background : int
        Grey value of the bare slide.
    width_mm, height_mm : float
        Field of view.
    """

    picture: np.ndarray
    background: int
    width_mm: float
    height_mm: float

    @classmethod
    def of(cls, scan: Scan, width_px: int = OVERVIEW_PX) -> "Overview":
        """Take the overview of a scan.

        Raises
        ------
        ScanError
            The level that is read is damaged.
        """
        mm = scan.pixel_um / 1000
        return cls(scan.thumbnail(width_px), scan.background, scan.width_px * mm, scan.height_px * mm)

    @cached_property
    def tissue(self) -> np.ndarray:
        """Pixels that are tissue, (H, W) bool."""
        return tissue_of(self.picture, self.background)

    @cached_property
    def density(self) -> np.ndarray:
        """Optical density, log10(slide / grey value), (H, W) float32: proportional to the stain by Beer and Lambert.

        0 where a pixel is as light as the slide or lighter. The scanner is assumed to be linear.
        """
        light = np.maximum(self.picture.astype(np.float32), 1.0)
        return np.maximum(np.log10(max(self.background, 1) / light), 0.0).astype(np.float32)
