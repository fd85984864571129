"""Patches: sampling positions in the cortex, the index of what is known of each patch, and splits into roles."""

from cytonet_pipeline.patches.ids import order_of, patch_ids
from cytonet_pipeline.patches.index import build_index, index_brain
from cytonet_pipeline.patches.index_files import read_index, read_index_parameters, read_parts, write_index
from cytonet_pipeline.patches.labels import TEST_ROLES, draw_order, labelled_rows, labels_of_draw, split_for_training
from cytonet_pipeline.patches.quality_points import cortex_points
from cytonet_pipeline.patches.splits import assign_splits
from cytonet_pipeline.patches.subset import brain_shares, take_subset

__all__ = [
    "TEST_ROLES",
    "assign_splits",
    "brain_shares",
    "build_index",
    "cortex_points",
    "draw_order",
    "index_brain",
    "labelled_rows",
    "labels_of_draw",
    "order_of",
    "patch_ids",
    "read_index",
    "read_index_parameters",
    "read_parts",
    "split_for_training",
    "take_subset",
    "write_index",
]
