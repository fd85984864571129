"""The command line: `cytonet …`. Each command reads its arguments, calls one room, and prints what came out."""

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cytonet_pipeline import __version__, progress
from cytonet_pipeline.console import Terminal, err, out, show
from cytonet_pipeline.errors import ConfigurationError, CytonetError
from cytonet_pipeline.settings import PROJECT, Settings

if TYPE_CHECKING:
    from dagster import DagsterInstance

app = typer.Typer(
    help="""From section scans to encoders, metrics, plots and brain maps.

    Where things lie is said by the environment: CYTONET_DATA (a BIDS data set of section scans), CYTONET_REFERENCE (the
    folder tpl-MNIColin27), CYTONET_STORE (results), CYTONET_EXPERIMENTS (what to train). Without them every command
    works on the synthetic brains of `cytonet demo`.""",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
lineage_app = typer.Typer(
    help="Which sections made this model, and which models saw this section.", rich_markup_mode=None
)
app.add_typer(lineage_app, name="lineage")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]


def main() -> None:
    """Entry point: a fault that the user can mend is one message and exit code 1, never a traceback."""
    try:
        app(standalone_mode=True)
    except CytonetError as error:
        err.print(f"cytonet: {error}", style="red", soft_wrap=True)
        sys.exit(1)


@app.command()
def demo() -> None:
    """Write synthetic brains to demo/, materialise every asset from them, show the table and where the plots lie."""
    from cytonet_pipeline.phantom import write_phantom

    settings = Settings.from_environment(
        {**os.environ, "CYTONET_DATA": "", "CYTONET_REFERENCE": "", "CYTONET_EXPERIMENTS": ""}
    )
    os.environ.update(settings.environment())
    with progress.shown_on(Terminal()):
        write_phantom(settings.data.parent)
    ok = _materialise(settings, [], [])
    _show_results(settings)
    raise typer.Exit(0 if ok else 1)


@app.command()
def phantom(
    folder: Annotated[Path, typer.Argument(help="Folder to write: brains/ and tpl-MNIColin27/.")],
    brains: Annotated[str, typer.Option(help="Names of the brains, separated by commas.")] = "B01,B02,B03,B20",
    sections: Annotated[int, typer.Option(help="Sections a brain.", min=3)] = 12,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    reference: Annotated[
        Path | None, typer.Option(help="Take template, atlas and surfaces from this tpl-MNIColin27 folder.")
    ] = None,
) -> None:
    """Write synthetic brains in the pipeline's input format: for trying things out and for tests, not for science."""
    from cytonet_pipeline.phantom import write_phantom

    with progress.shown_on(Terminal()):
        write_phantom(folder, brains=_names(brains), sections=sections, seed=seed, reference=reference)
    out.print(f"CYTONET_DATA={folder / 'brains'}")
    out.print(f"CYTONET_REFERENCE={reference or folder / 'tpl-MNIColin27'}")


@app.command()
def run(
    brains: Annotated[str | None, typer.Option(help="Only these, separated by commas; default: all released.")] = None,
    encoders: Annotated[
        str | None, typer.Option(help="Only these; default: all of CYTONET_EXPERIMENTS that are not retired.")
    ] = None,
) -> None:
    """Materialise the pipeline for CYTONET_DATA. What is current is kept; after a failure, run it again to go on."""
    settings = Settings.from_environment()
    ok = _materialise(settings, _names(brains or ""), _names(encoders or ""))
    _show_results(settings)
    raise typer.Exit(0 if ok else 1)


@app.command()
def doctor() -> None:
    """Say what is missing on this machine, in the reference and in the data set, before hours are spent on it."""
    from cytonet_pipeline.doctor import examine

    with progress.shown_on(Terminal()):
        findings = examine(Settings.from_environment())
    for finding in findings:
        out.print(f"[{finding.colour}]{finding.word:>5}[/]  {finding.text}", soft_wrap=True)
    failed = sum(finding.bad for finding in findings)
    out.print(f"{failed} to mend" if failed else "ready")
    raise typer.Exit(1 if failed else 0)


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port of the web server.")] = 3000,
    host: Annotated[str, typer.Option(help="Address to listen on; the web server has no login.")] = "127.0.0.1",
) -> None:
    """Start the Dagster UI and its daemon on the same instance as `cytonet run`."""
    from cytonet_pipeline.defs.instance import dagster_home, open_instance

    home = dagster_home()
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    open_instance().dispose()
    out.print(f"http://{host}:{port}  (instance in {home}; stop with Ctrl-C)")
    os.chdir(PROJECT)
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(PROJECT / "workspace.yaml")]
    os.execv(sys.executable, [*command, "-h", host, "-p", str(port)])


@app.command("map")
def map_(
    brain: Annotated[str, typer.Argument(help="Brain, with or without sub-.")],
    points: Annotated[Path, typer.Argument(help="TSV: x_mm y_mm z_mm, or sample x_px y_px for scan positions.")],
    to: Annotated[str, typer.Option(help="MNIColin27, or brain (the brain's own space).")] = "MNIColin27",
    output: Annotated[Path | None, typer.Option("--out", help="TSV to write; default: standard output.")] = None,
) -> None:
    """Map points of a brain to Colin-27, or back. Millimetres, RAS; a point without an image becomes n/a."""
    from cytonet_pipeline.mapping import map_table

    mapped, without = map_table(Settings.from_environment(), brain.removeprefix("sub-"), points, to)
    text = mapped.to_csv(sep="\t", index=False, na_rep="n/a", float_format="%.4f")
    if output is None:
        typer.echo(text, nl=False)
    else:
        from cytonet_pipeline.store import write_text

        write_text(output, text)
    if without:
        err.print(f"{without} of {len(mapped)} points have no image there (n/a)")


@app.command()
def adopt() -> None:
    """Register what the store holds with Dagster, after its database was lost or for a store from elsewhere."""
    from cytonet_pipeline.definitions import build_defs
    from cytonet_pipeline.defs.adopt import adopt_store

    settings = Settings.from_environment()
    with _instance() as instance:
        adopted = adopt_store(build_defs(), instance, settings)
    out.print(f"{adopted} results of {settings.store} are known to Dagster now")


@lineage_app.command("encoder")
def lineage_encoder(
    name: Annotated[str, typer.Argument(help="Encoder, or encoder@version.")], as_json: AsJson = False
) -> None:
    """Which sections an encoder saw, which it must not see, and by which transforms they came to Colin-27."""
    from cytonet_pipeline.lineage import sections_of
    from cytonet_pipeline.store import Store

    encoder, _, version = name.partition("@")
    sections = sections_of(encoder, Store(Settings.from_environment().store), version or None)
    if as_json:
        typer.echo(sections.to_json(orient="records", indent=2))
        return
    columns = ["brain", "sample", "role", "n_patches", "n_training_patches", "digest", "transform_digest"]
    show(sections[columns], title=name)
    seen = sections["n_training_patches"]
    out.print(f"{seen.sum()} patches of {(seen > 0).sum()} sections")


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


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _materialise(settings: Settings, brains: list[str], encoders: list[str]) -> bool:
    from cytonet_pipeline.dataset import Dataset
    from cytonet_pipeline.store import open_store

    for name in encoders:
        settings.encoder(name)
    dataset = Dataset(settings.data, settings.experiments.dataset)
    released = dataset.released()
    unknown = sorted({name.removeprefix("sub-") for name in brains} - set(dataset.brains()))
    if unknown:
        raise ConfigurationError(f"{settings.data}: no brain {', '.join(unknown)}.", to_fix="see cytonet doctor")
    wanted = [name.removeprefix("sub-") for name in brains] if brains else released
    if not wanted:
        raise ConfigurationError(
            f"{settings.data}: no brain is released.",
            to_fix="set `ingest` to `ready` in participants.tsv, or wait for the quiet time; see cytonet doctor",
        )
    open_store(settings)
    chosen = encoders or [name for name, block in settings.experiments.encoders.items() if not block.retired]

    from cytonet_pipeline.definitions import build_defs
    from cytonet_pipeline.defs.walk import walk

    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    with _instance() as instance, progress.shown_on(Terminal()):
        try:
            outcome = walk(build_defs(), instance, settings, brain_names=wanted, encoder_names=chosen)
        except KeyboardInterrupt:
            err.print("interrupted; what was finished is kept, run the same command to go on", style="red")
            raise typer.Exit(130) from None
    for name, message in outcome.remarks.items():
        err.print(f"note on {name}\n{message}", soft_wrap=True)
    for name, message in outcome.faults.items():
        err.print(f"fault in {name}\n{message}", style="yellow", soft_wrap=True)
    for name, message in outcome.failed.items():
        err.print(f"failed: {name}\n{message}", style="red", soft_wrap=True)
    out.print(f"{len(outcome.done)} done, {len(outcome.current)} current, {len(outcome.failed)} failed")
    return not outcome.failed and not outcome.faults


def _show_results(settings: Settings) -> None:
    from cytonet_pipeline.store import Store, read_table

    store = Store(settings.store)
    path = store.metrics() / "metrics.parquet"
    if not path.exists():
        return
    metrics = read_table(path, "metrics")
    whole = metrics[metrics["labels_per_area"] == 0]
    # What the table says first about its data: the reader of figures needs it before the figures.
    out.print("\n" + (store.metrics() / "metrics.md").read_text(encoding="utf-8").split("\n\n")[0], soft_wrap=True)
    scores = whole.pivot_table("macro_f1", ["encoder", "method", "protocol"], "split").reset_index()
    show(scores.rename(columns={"seen_brains": "seen brains", "unseen_brain": "unseen brain"}), title="macro F1")
    out.print(f"table   {store.metrics() / 'metrics.md'}", soft_wrap=True)
    out.print(f"plots   {store.root / 'umap'}", soft_wrap=True)
    out.print(f"maps    {store.root / 'area_maps'}", soft_wrap=True)
    out.print("look    make ui")


@contextmanager
def _instance() -> Iterator["DagsterInstance"]:
    from cytonet_pipeline.defs.instance import open_instance

    with open_instance() as instance:
        yield instance


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


if __name__ == "__main__":
    main()
