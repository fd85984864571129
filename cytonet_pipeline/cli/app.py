"""The application that the commands hang on, and what they share."""

from typing import Annotated

import typer

app = typer.Typer(
    help="""From section scans to encoders, metrics, plots and brain maps.

    Where things lie is said by the environment: CYTONET_DATA (a BIDS data set of section scans), CYTONET_REFERENCE (the
    folder tpl-MNIColin27), CYTONET_STORE (results), CYTONET_EXPERIMENTS (what to train), CYTONET_CLUSTER (where
    training runs). Without them every command works on the synthetic brains of `cytonet demo`.""",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]


def names_in(text: str) -> list[str]:
    """Names in a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
