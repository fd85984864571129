"""OME-Zarr (NGFF 0.4 and 0.5), read without trusting its metadata."""

from cytonet_pipeline.histology.formats.ome_zarr.reader import OmeZarrReader

READER = OmeZarrReader
