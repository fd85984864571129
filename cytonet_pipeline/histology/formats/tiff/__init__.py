"""TIFF, BigTIFF and OME-TIFF, read without trusting what the file announces."""

from cytonet_pipeline.histology.formats.tiff.reader import TiffReader

READER = TiffReader
