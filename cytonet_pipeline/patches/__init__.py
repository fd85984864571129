"""Patches: sampling positions in the cortex, the index of what is known of each patch, and splits into roles."""

from cytonet_pipeline.patches.ids import order_of, patch_ids
from cytonet_pipeline.patches.index import build_index, index_brain
from cytonet_pipeline.patches.index_files import read_index, read_index_parameters, read_parts, write_index
from cytonet_pipeline.patches.quality_points import cortex_points
from cytonet_pipeline.patches.splits import assign_splits
from cytonet_pipeline.patches.subset import brain_shares, take_subset

__all__ = [
    "assign_splits",
    "brain_shares",
    "build_index",
    "cortex_points",
    "index_brain",
    "order_of",
    "patch_ids",
    "read_index",
    "read_index_parameters",
    "read_parts",
    "take_subset",
    "write_index",
]
