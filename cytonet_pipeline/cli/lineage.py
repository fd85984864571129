"""Commands on lineage: which sections made this model, and which models saw this section."""

import json
from typing import Annotated

import typer

from cytonet_pipeline.cli.app import AsJson, app
from cytonet_pipeline.cli.console import out, show
from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.settings import Settings

lineage_app = typer.Typer(
    help="Which sections made this model, and which models saw this section.", rich_markup_mode=None
)
app.add_typer(lineage_app, name="lineage")


@lineage_app.command("encoder")
def lineage_encoder(
    name: Annotated[str, typer.Argument(help="Encoder, or encoder@version.")], as_json: AsJson = False
) -> None:
    """Which sections an encoder saw, which it must not see, and by which transforms they came to Colin-27."""
    from cytonet_pipeline.lineage import ancestors_of, sections_of
    from cytonet_pipeline.store import Store

    encoder, _, version = name.partition("@")
    store = Store(Settings.from_environment().store)
    sections = sections_of(encoder, store, version or None)
    if as_json:
        typer.echo(sections.to_json(orient="records", indent=2))
        return
    columns = ["brain", "sample", "role", "n_patches", "n_training_patches", "digest", "transform_digest"]
    show(sections[columns], title=name)
    seen = sections["n_training_patches"]
    out.print(f"{seen.sum()} patches of {(seen > 0).sum()} sections")
    for ancestor in ancestors_of(encoder, store, version or None):
        origin = f"{ancestor['encoder']}@{ancestor['version']}" if ancestor["encoder"] else ancestor["path"]
        out.print(f"continues from {origin} (weights {ancestor['digest']})", soft_wrap=True)


@lineage_app.command("section")
def lineage_section(
    section: Annotated[str, typer.Argument(help="SUB/SAMPLE, for example B01/4332.")], as_json: AsJson = False
) -> None:
    """Which trained encoders know a section, and in which role."""
    import pandas as pd

    from cytonet_pipeline.lineage import encoders_of
    from cytonet_pipeline.store import Store

    brain, _, sample = section.partition("/")
    if not sample:
        raise ConfigurationError(f"{section!r}: not a section.", to_fix="name it SUB/SAMPLE, for example B01/4332")
    frame = pd.DataFrame(encoders_of(brain, sample, Store(Settings.from_environment().store)))
    if as_json:
        typer.echo(frame.to_json(orient="records", indent=2))
    elif frame.empty:
        out.print(f"no trained encoder knows {section}")
    else:
        show(frame, title=section)


@lineage_app.command("diff")
def lineage_diff(
    a: Annotated[str, typer.Argument(help="Encoder, or encoder@version.")],
    b: Annotated[str, typer.Argument(help="Encoder, or encoder@version.")],
    as_json: AsJson = False,
) -> None:
    """How what two encoders saw differs: sections, transforms, roles, configuration."""
    from cytonet_pipeline.lineage import compare, find_training_set
    from cytonet_pipeline.store import Store

    store = Store(Settings.from_environment().store)
    lines = compare(find_training_set(a, store), find_training_set(b, store))
    typer.echo(json.dumps(lines, indent=2) if as_json else "\n".join(lines) or "no difference")
