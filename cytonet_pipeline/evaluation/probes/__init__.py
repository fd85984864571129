"""Probes: classifiers on frozen features, and the protocols that they are trained by."""
