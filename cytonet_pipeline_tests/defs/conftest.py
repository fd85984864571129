"""Fixtures that several modules share. Imported into each of them, a fixture would be built once per module."""

from cytonet_pipeline_tests.cluster.slurm.slurm_cluster import slurm
from cytonet_pipeline_tests.defs.slurm_runs import indexed
from cytonet_pipeline_tests.defs.ui_server import server

__all__ = ["indexed", "server", "slurm"]
