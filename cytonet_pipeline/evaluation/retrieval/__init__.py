"""Retrieval without labels: how far from the place sought the patch with the most similar features lies."""
