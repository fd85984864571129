"""The command line: `cytonet …`. Each command reads its arguments, calls one room, and prints the result."""

import sys

import typer

# Makes the names of backbones and losses known to the check of experiments files.
import cytonet_pipeline.learning  # noqa: F401
from cytonet_pipeline import __version__
from cytonet_pipeline.cli.app import app
from cytonet_pipeline.cli.console import err
from cytonet_pipeline.errors import CytonetError

# The order of these imports is the order of the commands in `cytonet --help`.
# isort: off
from cytonet_pipeline.cli import pipeline
from cytonet_pipeline.cli import ui
from cytonet_pipeline.cli import study
from cytonet_pipeline.cli import store
from cytonet_pipeline.cli import consent
from cytonet_pipeline.cli import inputs
from cytonet_pipeline.cli import doctor
from cytonet_pipeline.cli import lineage
from cytonet_pipeline.cli import training
from cytonet_pipeline.cli import bench
# isort: on

__all__ = [
    "app", "bench", "consent", "doctor", "inputs", "lineage", "main", "pipeline", "store", "study", "training", "ui",
]  # fmt: skip


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Entry point: a fault that the user can fix is one message and exit code 1, never a traceback."""
    try:
        app(standalone_mode=True)
    except CytonetError as error:
        err.print(f"cytonet: {error}", style="red", soft_wrap=True)
        sys.exit(1)
