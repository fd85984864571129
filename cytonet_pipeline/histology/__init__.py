"""Scans: opened without trusting them, read patch by patch, judged by their quality."""

from cytonet_pipeline.histology.annotations import read_annotation, read_mask
from cytonet_pipeline.histology.digest import scan_digest
from cytonet_pipeline.histology.labels import LabelImage
from cytonet_pipeline.histology.scan import Scan, open_scan
from cytonet_pipeline.histology.survey import survey

__all__ = ["LabelImage", "Scan", "open_scan", "read_annotation", "read_mask", "scan_digest", "survey"]
