"""Commands on what goes in: synthetic brains, and points by hand."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cytonet_pipeline import progress
from cytonet_pipeline.cli.app import app, names_in
from cytonet_pipeline.cli.console import Terminal, err, out
from cytonet_pipeline.names import bare_brain
from cytonet_pipeline.settings import Settings


class Scale(StrEnum):
    """Sizes of synthetic brains."""

    DEMO = "demo"
    POSTER = "poster"


@app.command()
def phantom(
    folder: Annotated[Path, typer.Argument(help="Folder to write: brains/ and tpl-MNIColin27/.")],
    brains: Annotated[
        str | None, typer.Option(help="Names of the brains, separated by commas; default: B01,B02,B03,B20.")
    ] = None,
    sections: Annotated[
        int | None,
        typer.Option(
            help="Sections per brain, default 12; at poster scale sections of all brains together, default 4128.",
            min=3,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    reference: Annotated[
        Path | None, typer.Option(help="Take template, atlas and surfaces from this tpl-MNIColin27 folder.")
    ] = None,
    scale: Annotated[
        Scale,
        typer.Option(help="demo: small scans with painted cells; poster: 9 brains, 4128 scans of 100,000 x 80,000 px."),
    ] = Scale.DEMO,
) -> None:
    """Write synthetic brains in the pipeline's input format: for trying things out and for tests, not for science."""
    from cytonet_pipeline.phantom import write_phantom

    names = [bare_brain(name) for name in names_in(brains)] if brains else None
    with progress.shown_on(Terminal()):
        write_phantom(folder, brains=names, sections=sections, seed=seed, reference=reference, scale=scale.value)
    out.print(f"CYTONET_DATA={folder / 'brains'}")
    out.print(f"CYTONET_REFERENCE={reference or folder / 'tpl-MNIColin27'}")


@app.command("map")
def map_(
    brain: Annotated[str, typer.Argument(help="Brain, with or without sub-.")],
    points: Annotated[Path, typer.Argument(help="TSV: x_mm y_mm z_mm, or sample x_px y_px for scan positions.")],
    to: Annotated[str, typer.Option(help="MNIColin27, or brain (the brain's own space).")] = "MNIColin27",
    output: Annotated[Path | None, typer.Option("--out", help="TSV to write; default: standard output.")] = None,
) -> None:
    """Map points of a brain to Colin-27, or back, in millimetres, RAS.

    A point at which the transform has no value, or whose inverse is not found, becomes n/a. Far outside the brain a
    transform still has values, but nothing was registered there: such points are mapped, and their number is said.
    """
    from cytonet_pipeline.registration.map_points import map_table

    mapped, remarks = map_table(Settings.from_environment(), bare_brain(brain), points, to)
    text = mapped.to_csv(sep="\t", index=False, na_rep="n/a", float_format="%.4f")
    if output is None:
        typer.echo(text, nl=False)
    else:
        from cytonet_pipeline.store import write_text

        write_text(output, text)
    for remark in remarks:
        err.print(remark, soft_wrap=True)
