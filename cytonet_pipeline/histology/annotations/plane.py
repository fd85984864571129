"""Labels over the plane of a scan, whether they come as an image or as contours."""

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np


class PlaneLabels(ABC):
    """Whole numbers over the plane of a scan; 0 is nothing.

    Attributes
    ----------
    path : Path
        The file.
    unknown : tuple of str
        Labels that the table of areas lacks, and that therefore count as 0.
    """

    path: Path
    unknown: tuple[str, ...]

    def at_mm(self, x_mm: np.ndarray | float, y_mm: np.ndarray | float) -> np.ndarray:
        """Return the label at points of the scan plane, in mm from the outer corner of its first pixel; 0 outside.

        Returns
        -------
        int32 array
            Of the shape that `x_mm` and `y_mm` broadcast to.
        """
        x, y = np.broadcast_arrays(np.asarray(x_mm, np.float64), np.asarray(y_mm, np.float64))
        return self._at(x, y)

    @abstractmethod
    def _at(self, x_mm: np.ndarray, y_mm: np.ndarray) -> np.ndarray:
        """Return the labels at points given by two arrays of one shape."""
