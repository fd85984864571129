"""Synthetic brains in the input format: for the demo and the tests, never for results.

They test the plumbing. Nothing in the pipeline imports this room.
"""

from cytonet_pipeline.phantom.write import write_phantom

__all__ = ["write_phantom"]
