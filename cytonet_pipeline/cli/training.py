"""Commands around a training: what it will need, its weights for other programs, benchmarks, and tidying the store."""

import ast
import json
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cytonet_pipeline import __version__
from cytonet_pipeline.cli.app import AsJson, app, names_in
from cytonet_pipeline.cli.console import out, show
from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.settings import PROJECT, Settings

_BENCHMARKS = PROJECT / "benchmarks"
# What several of them share.
_NOT_BENCHMARKS = {"report"}


class ExportFormat(StrEnum):
    """Forms that other programs read."""

    ONNX = "onnx"
    TORCH = "torch"


@app.command()
def plan(
    encoders: Annotated[
        str | None, typer.Option(help="Only these, separated by commas; default: all of CYTONET_EXPERIMENTS.")
    ] = None,
    gpu: Annotated[str, typer.Option(help="Kind of GPU; an unknown one lists those that are known.")] = "A100-40GB",
    gpus: Annotated[
        int | None, typer.Option(help="How many; default: those of the cluster's profile, else `processes`.", min=1)
    ] = None,
    scan_um: Annotated[float, typer.Option(help="Pixel size of the scans (um).", min=0.01)] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Say what training runs will need: memory per GPU, hours, reading, disk, and what to switch on."""
    from cytonet_pipeline.cluster.launchers import backend_of
    from cytonet_pipeline.learning.planning.resource_plan import plan_training, remarks, table

    settings = Settings.from_environment()
    gpus = gpus or backend_of(settings).training_gpus()
    plans = plan_training(settings, gpu, names_in(encoders or "") or None, gpus=gpus, scan_um=scan_um)
    if as_json:
        typer.echo(json.dumps([each.as_json() for each in plans], indent=2))
    else:
        show(table(plans), title=f"{settings.experiments_file.name} on {gpu}")
        for line in remarks(plans):
            out.print(line, soft_wrap=True, markup=False)
    raise typer.Exit(0 if all(each.fits for each in plans) else 1)


@app.command()
def export(
    encoder: Annotated[str, typer.Argument(help="Encoder, or encoder@version, of the store.")],
    to: Annotated[Path, typer.Argument(help="File to write; without a suffix it gets that of the format.")],
    form: Annotated[ExportFormat, typer.Option("--format", help="ONNX, or torch.export (.pt2).")] = ExportFormat.ONNX,
) -> None:
    """Write an encoder for programs that know nothing of this one: grey images in 0..1 in, features out."""
    from cytonet_pipeline.learning.export import export_encoder
    from cytonet_pipeline.store import Store

    store = Store(Settings.from_environment().store)
    name, _, version = encoder.partition("@")
    folder = store.encoder(name, version) if version else store.current_encoder(name)
    out.print(str(export_encoder(folder, to, form.value)), soft_wrap=True)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Which one; without a name they are listed.")] = None,
) -> None:
    """Run a benchmark: it prints both sides and their ratio. Further options are the benchmark's own."""
    scripts = {path.stem: path for path in sorted(_BENCHMARKS.glob("*.py")) if path.stem not in _NOT_BENCHMARKS}
    if name is None:
        for stem, path in scripts.items():
            out.print(f"{stem:12} {_first_line(path.read_text(encoding='utf-8'))}", soft_wrap=True)
        return
    if name not in scripts:
        raise ConfigurationError(
            f"{name!r}: no such benchmark.",
            looked_for=str(_BENCHMARKS / f"{name}.py"),
            to_fix=f"one of {', '.join(scripts)}; they come with the source code, not with an installed package",
        )
    raise typer.Exit(subprocess.run([sys.executable, str(scripts[name]), *context.args], check=False).returncode)


@app.command()
def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Delete what is listed.")] = False, as_json: AsJson = False
) -> None:
    """List what no current encoder, table or lineage record needs; with --yes delete it. Never weights or records."""
    import pandas as pd

    from cytonet_pipeline.store import Store
    from cytonet_pipeline.store.garbage import unneeded

    store = Store(Settings.from_environment().store)
    found = unneeded(store)
    rows = [{"path": str(item.path.relative_to(store.root)), "MB": item.bytes / 1e6, "why": item.why} for item in found]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    elif rows:
        show(pd.DataFrame(rows), title=str(store.root))
    for item in found if yes else []:
        item.delete()
    if not as_json:
        total = f"{sum(item.bytes for item in found) / 1e6:.1f} MB in {len(found)} places"
        out.print(f"deleted {total}" if yes else f"{total}; delete them with: cytonet gc --yes" if found else "nothing")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _first_line(source: str) -> str:
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
