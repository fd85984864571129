"""Commands around training: what it will need, and weights for other programs."""

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cytonet_pipeline import progress
from cytonet_pipeline.cli.app import AsJson, app, names_in
from cytonet_pipeline.cli.console import out, show
from cytonet_pipeline.settings import Settings


class ExportFormat(StrEnum):
    """Formats that other programs read."""

    ONNX = "onnx"
    TORCH = "torch"


@app.command()
def plan(
    encoders: Annotated[
        str | None, typer.Option(help="Only these, separated by commas; default: all of CYTONET_EXPERIMENTS.")
    ] = None,
    gpu: Annotated[
        str, typer.Option(help="Kind of GPU to plan for, here or elsewhere; an unknown name lists the known ones.")
    ] = "A100-40GB",
    gpus: Annotated[
        int | None,
        typer.Option(help="GPUs; default: those of the cluster's profile, else `processes`.", min=1),
    ] = None,
    scan_um: Annotated[float, typer.Option(help="Pixel size of the scans (um).", min=0.01)] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Say what training runs will need: memory per GPU, hours, reading, disk, and what to switch on."""
    from cytonet_pipeline.cluster.launchers import backend_of
    from cytonet_pipeline.learning.planning.resource_plan import DROPPABLE, plan_training, remarks, table
    from cytonet_pipeline.store import Store
    from cytonet_pipeline.store.pins import pins

    settings = Settings.from_environment()
    gpus = gpus or backend_of(settings).training_gpus()
    plans = plan_training(settings, gpu, names_in(encoders or "") or None, gpus=gpus, scan_um=scan_um)
    if as_json:
        typer.echo(json.dumps([each.as_json() for each in plans], indent=2))
    else:
        show(table(plans), title=f"{settings.experiments_file.name} on {gpu}", droppable=DROPPABLE)
        out.print(f"planned for {gpu}, which need not be in this machine; --gpu NAME: another kind", soft_wrap=True)
        for line in remarks(plans):
            out.print(line, soft_wrap=True)
        for name, pinned in pins(Store(settings.store)).items():
            if not encoders or name in names_in(encoders):
                out.print(pinned.text, soft_wrap=True)
    raise typer.Exit(0 if all(each.fits for each in plans) else 1)


@app.command()
def export(
    encoder: Annotated[str, typer.Argument(help="Encoder, or encoder@version, of the store.")],
    to: Annotated[Path, typer.Argument(help="File to write; without a suffix it gets that of the format.")],
    form: Annotated[ExportFormat, typer.Option("--format", help="ONNX, or torch.export (.pt2).")] = ExportFormat.ONNX,
) -> None:
    """Write an encoder for other programs: it takes grey images in 0..1 and returns features."""
    from cytonet_pipeline.learning.export import export_encoder
    from cytonet_pipeline.lineage import folder_of
    from cytonet_pipeline.store import Store

    store = Store(Settings.from_environment().store)
    name, _, version = encoder.partition("@")
    folder = folder_of(name, store, version or None)
    out.print(str(export_encoder(folder, to, form.value)), soft_wrap=True)


@app.command()
def reproduce(
    encoder: Annotated[str, typer.Argument(help="Encoder (the version in use), or encoder@version.")],
    to: Annotated[
        Path | None, typer.Option(help="New folder that keeps what is trained; default: a temporary one.")
    ] = None,
    only_compare: Annotated[bool, typer.Option("--no-training", help="Only say what differs or is missing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a stored version again from its record alone, and say whether the weights agree.

    The record is the version's folder: configuration, sections, patches and initial weights. The experiments file of
    today and the patch index are not asked; of the data set only the scans are read. First it says what of code,
    packages and data differs, and what is missing. Then it trains on this machine, which takes as long as it did then,
    in a folder of its own: the stored version is never touched.

    On the CPU, with the same packages and as many threads (it takes those of the record), weights agree bit for bit.
    Otherwise rounding grows with every step: read how far apart they are, and compare the scores instead.
    Exit code 0: they agree bit for bit.
    """
    import tempfile

    from cytonet_pipeline.cli.console import Terminal
    from cytonet_pipeline.stages.reproduce import read_stored, train_again

    settings = Settings.from_environment()
    with progress.shown_on(Terminal()), tempfile.TemporaryDirectory(prefix="cytonet-reproduce-") as temporary:
        stored = read_stored(settings, encoder)
        if not as_json:
            for line in (*(f"missing: {text}" for text in stored.missing), *stored.differing):
                out.print(line, soft_wrap=True)
            if not (stored.missing or stored.differing):
                out.print("code, packages, machine and scans are as they were")
        compared = [] if only_compare else train_again(settings, stored, to or Path(temporary))
    if as_json:
        weights = [{**asdict(each), "agrees": each.agrees} for each in compared]
        found = {"missing": stored.missing, "differing": stored.differing, "weights": weights}
        typer.echo(json.dumps({"version": str(stored.folder.name), **found}, indent=2))
    else:
        for each in compared:
            out.print(each.text, soft_wrap=True)
    raise typer.Exit(0 if all(each.agrees for each in compared) and not stored.missing else 1)
