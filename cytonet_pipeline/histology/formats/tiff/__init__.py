"""TIFF, BigTIFF and OME-TIFF, read without trusting what the file announces."""
