"""Scans of sections: opened without trusting the file, read patch by patch, checked for quality."""

from cytonet_pipeline.histology.annotations.labels import LabelImage
from cytonet_pipeline.histology.annotations.reading import open_annotation, open_mask, read_annotation, read_mask
from cytonet_pipeline.histology.formats.registry import scan_digest
from cytonet_pipeline.histology.inventory.changed_reading import require_plausible, sections_read_otherwise
from cytonet_pipeline.histology.inventory.reuse import Inventory, read_inventory, write_pictures
from cytonet_pipeline.histology.inventory.second_look import sections_to_examine_again, without
from cytonet_pipeline.histology.inventory.series import gaps
from cytonet_pipeline.histology.inventory.survey import survey, take_inventory
from cytonet_pipeline.histology.pixels.tiles import set_tile_budget
from cytonet_pipeline.histology.scan import Scan, open_scan

__all__ = [
    "Inventory",
    "LabelImage",
    "Scan",
    "gaps",
    "open_annotation",
    "open_mask",
    "open_scan",
    "read_annotation",
    "read_inventory",
    "read_mask",
    "require_plausible",
    "scan_digest",
    "sections_read_otherwise",
    "sections_to_examine_again",
    "set_tile_budget",
    "survey",
    "take_inventory",
    "without",
    "write_pictures",
]
