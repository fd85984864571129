"""Synthetic brains of the poster's size, whose scans are made of few different tiles."""

from cytonet_pipeline.phantom.poster.brains import BRAINS, PIXEL_UM, SECTIONS, PosterBrain, write_poster_brains

__all__ = ["BRAINS", "PIXEL_UM", "SECTIONS", "PosterBrain", "write_poster_brains"]
