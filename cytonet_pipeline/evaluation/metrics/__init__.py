"""Metrics: scores of predictions, their intervals, and how far off wrong predictions are."""
