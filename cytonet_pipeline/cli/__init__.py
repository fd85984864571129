"""The command line: `cytonet …`. Each command reads its arguments, calls one room, and prints what came out."""

import sys

# Makes the names of backbones and losses known to the check of experiments files.
import cytonet_pipeline.learning  # noqa: F401

# The order of these imports is the order of the commands in `cytonet --help`.
from cytonet_pipeline.cli import pipeline

# isort: split
from cytonet_pipeline.cli import data, lineage, training
from cytonet_pipeline.cli.app import app
from cytonet_pipeline.cli.console import err
from cytonet_pipeline.errors import CytonetError

__all__ = ["app", "data", "lineage", "main", "pipeline", "training"]


def main() -> None:
    """Entry point: a fault that the user can mend is one message and exit code 1, never a traceback."""
    try:
        app(standalone_mode=True)
    except CytonetError as error:
        err.print(f"cytonet: {error}", style="red", soft_wrap=True)
        sys.exit(1)
