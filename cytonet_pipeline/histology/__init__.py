"""Scans: opened without trusting them, read patch by patch, judged by their quality."""

from cytonet_pipeline.histology.annotations import open_annotation, read_annotation, read_mask
from cytonet_pipeline.histology.digest import scan_digest
from cytonet_pipeline.histology.labels import LabelImage
from cytonet_pipeline.histology.reuse import Inventory, read_inventory, write_pictures
from cytonet_pipeline.histology.scan import Scan, open_scan
from cytonet_pipeline.histology.standing import gaps
from cytonet_pipeline.histology.survey import survey, take_inventory
from cytonet_pipeline.histology.tiles import set_tile_budget

__all__ = [
    "Inventory",
    "LabelImage",
    "Scan",
    "gaps",
    "open_annotation",
    "open_scan",
    "read_annotation",
    "read_inventory",
    "read_mask",
    "scan_digest",
    "set_tile_budget",
    "survey",
    "take_inventory",
    "write_pictures",
]
