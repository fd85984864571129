"""The application that the commands are registered with, and what they share."""

from typing import Annotated

import typer

app = typer.Typer(
    help="""From section scans to encoders, metrics, plots and brain maps.

    The environment says where things lie: CYTONET_DATA (a BIDS data set of section scans), CYTONET_REFERENCE (the
    folder tpl-MNIColin27), CYTONET_STORE (results), CYTONET_EXPERIMENTS (what to train), CYTONET_CLUSTER (where
    training runs). Without them every command works on the synthetic brains that `cytonet demo` writes to demo/.""",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]


def names_in(text: str) -> list[str]:
    """Split a list of names that are separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
