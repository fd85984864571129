"""Synthetic brains in the input format: for the demo and the tests, never for results.

They test the plumbing. No room of the pipeline imports this one.
"""

from cytonet_pipeline.phantom.write import write_phantom

__all__ = ["write_phantom"]
