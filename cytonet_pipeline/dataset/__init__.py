"""The data set: brains and sections as their tables and file names describe them, and what is missing.

Scans are not opened here; that is `histology`.
"""

from cytonet_pipeline.dataset.brain import Brain, Section
from cytonet_pipeline.dataset.data import Dataset
from cytonet_pipeline.dataset.files import sidecar_pixel_um
from cytonet_pipeline.dataset.reading import SIZE_TOLERANCE

__all__ = ["SIZE_TOLERANCE", "Brain", "Dataset", "Section", "sidecar_pixel_um"]
