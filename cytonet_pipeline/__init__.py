"""CytoNet as a Dagster pipeline: from section scans to encoders, metrics, plots and brain maps."""

__version__ = "0.2.1"
