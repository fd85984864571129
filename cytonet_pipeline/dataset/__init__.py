"""The data set: brains and sections as their tables and file names describe them, and what is missing.

Scans are opened by `histology` and not here.
"""

from cytonet_pipeline.dataset.areas import Areas
from cytonet_pipeline.dataset.brain import Brain, Section
from cytonet_pipeline.dataset.data import Dataset
from cytonet_pipeline.dataset.files import read_json_value, size_and_time
from cytonet_pipeline.dataset.names import SCAN_FORMATS
from cytonet_pipeline.dataset.picks import UNPICKED, Pick, split_pick, with_pick
from cytonet_pipeline.dataset.reading import SIZE_TOLERANCE
from cytonet_pipeline.dataset.series import positions_mm
from cytonet_pipeline.dataset.sidecars import sidecar_pixel_um

__all__ = [
    "SCAN_FORMATS",
    "SIZE_TOLERANCE",
    "UNPICKED",
    "Areas",
    "Brain",
    "Dataset",
    "Pick",
    "Section",
    "positions_mm",
    "read_json_value",
    "sidecar_pixel_um",
    "size_and_time",
    "split_pick",
    "with_pick",
]
