"""Commands that materialise the pipeline and show it."""

import logging
import os
from typing import TYPE_CHECKING, Annotated

import typer

from cytonet_pipeline import progress
from cytonet_pipeline.cli.app import app, names_in
from cytonet_pipeline.cli.console import Terminal, err, out, show
from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.names import bare_brain, describe_known
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store.processes import usable_cores

if TYPE_CHECKING:
    import pandas as pd

_DEMO_JOBS = min(2, usable_cores())
Jobs = Annotated[
    int, typer.Option("--jobs", "-j", min=1, help="Brains and encoders to work on side by side, sharing the cores.")
]


@app.command()
def demo(jobs: Jobs = _DEMO_JOBS) -> None:
    """Write synthetic brains to demo/, materialise every asset from them, show the table and where the plots lie."""
    from cytonet_pipeline.phantom import write_phantom

    settings = Settings.from_environment(
        {**os.environ, "CYTONET_DATA": "", "CYTONET_REFERENCE": "", "CYTONET_EXPERIMENTS": ""}
    )
    os.environ.update(settings.environment())
    with progress.shown_on(Terminal()):
        write_phantom(settings.data.parent)
    # One thread each: the figures are then the same on any number of cores of the same kind.
    ok = materialise(settings, [], [], jobs=jobs, threads=1)
    _show_results(settings)
    raise typer.Exit(0 if ok else 1)


@app.command()
def run(
    brains: Annotated[str | None, typer.Option(help="Only these, separated by commas; default: all released.")] = None,
    encoders: Annotated[
        str | None, typer.Option(help="Only these; default: all of CYTONET_EXPERIMENTS that are not retired.")
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="Only the encoders of this part of CYTONET_EXPERIMENTS (`parts:`).")
    ] = None,
    jobs: Jobs = 1,
) -> None:
    """Materialise the pipeline for CYTONET_DATA. What is current is kept; after a failure, run it again to go on."""
    settings = Settings.from_environment()
    chosen = names_in(encoders or "") + (settings.experiments.encoders_of(part) if part else [])
    ok = materialise(settings, names_in(brains or ""), chosen, jobs=jobs)
    _show_results(settings)
    raise typer.Exit(0 if ok else 1)


def materialise(
    settings: Settings, brains: list[str], encoders: list[str], *, jobs: int, threads: int | None = None
) -> bool:
    """Bring brains and encoders up to date (default: all), print what is wrong; return whether nothing is."""
    from cytonet_pipeline.cluster.launchers import require_backend
    from cytonet_pipeline.dataset import Dataset
    from cytonet_pipeline.lineage import stored_brains_left_out
    from cytonet_pipeline.stages.waiting import settle_returned
    from cytonet_pipeline.store import open_store
    from cytonet_pipeline.store.pins import pins

    require_backend(settings)
    for name in encoders:
        settings.encoder(name)
    dataset = Dataset(settings.data, settings.experiments.dataset)
    released = dataset.released()
    brains = [bare_brain(name) for name in brains]
    unknown = sorted(set(brains) - set(dataset.brains()))
    if unknown:
        raise ConfigurationError(
            f"{settings.data}: no brain {', '.join(unknown)}; {describe_known(unknown[0], dataset.brains())}.",
            to_fix="correct the name; cytonet doctor lists the brains",
        )
    wanted = brains or released
    wanted = _without_forgotten(settings, wanted, named=bool(brains))
    if not wanted:
        raise ConfigurationError(
            f"{settings.data}: no brain is released.",
            to_fix="set `ingest` to `ready` in participants.tsv, or wait for the quiet time; see cytonet doctor",
        )
    store = open_store(settings)
    settle_returned(settings)
    chosen = encoders or settings.experiments.by_importance()

    from cytonet_pipeline.definitions import build_defs
    from cytonet_pipeline.defs.instance import open_instance
    from cytonet_pipeline.defs.walk import walk
    from cytonet_pipeline.defs.workers import Workers

    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    with open_instance(settings.store) as instance, progress.shown_on(Terminal()):
        try:
            workers = None
            if jobs > 1 or threads is not None:
                share = threads or max(1, usable_cores() // jobs)
                workers = Workers(build_defs, settings, instance, count=jobs, threads=share)
            outcome = walk(build_defs(), instance, settings, brain_names=wanted, encoder_names=chosen, workers=workers)
        except KeyboardInterrupt:
            err.print("interrupted; what was finished is kept, run the same command to go on", style="red")
            raise typer.Exit(130) from None
    outcome.faults.update(_vanished(settings))
    left_out = {f"sub-{name}": reason for name, reason in stored_brains_left_out(settings, store).items()}
    outcome.remarks.update({name: reason for name, reason in left_out.items() if name not in outcome.faults})
    outcome.remarks.update({name: pin.text for name, pin in pins(store).items() if name in chosen})
    for name, message in outcome.remarks.items():
        err.print(f"note on {name}\n{message}", soft_wrap=True)
    for name, message in outcome.faults.items():
        err.print(f"fault in {name}\n{message}", style="yellow", soft_wrap=True)
    for name, message in outcome.failed.items():
        err.print(f"failed: {name}\n{message}", style="red", soft_wrap=True)
    out.print(f"{len(outcome.done)} done, {len(outcome.current)} current, {len(outcome.failed)} failed")
    return not outcome.failed and not outcome.faults


def _without_forgotten(settings: Settings, brains: list[str], *, named: bool) -> list[str]:
    """Leave out forgotten brains, with a note; one that a person has named is refused."""
    from cytonet_pipeline.store import Store
    from cytonet_pipeline.store.decisions import forgotten_brains, forgotten_fault

    forgotten = forgotten_brains(Store(settings.store))
    for brain in sorted(forgotten.keys() & set(brains)):
        if named:
            raise forgotten_fault(forgotten[brain])
        err.print(str(forgotten_fault(forgotten[brain])), soft_wrap=True)
    return [brain for brain in brains if brain not in forgotten]


def _vanished(settings: Settings) -> dict[str, str]:
    """Return what to say of brains that have vanished; those that would shrink are among the failed runs."""
    from cytonet_pipeline.stages.waiting import fault_of, vanished_brains

    return {f"sub-{brain}": str(fault_of(settings, loss)) for brain, loss in vanished_brains(settings).items()}


def _show_retrieval(metrics: "pd.DataFrame") -> None:
    """Show the medians of retrieval on the unseen brain."""
    from cytonet_pipeline.scores import RETRIEVAL, retrieval_only

    measured = retrieval_only(metrics)
    measured = measured[measured["retrieval_mm"].notna() & (measured["split"] == "unseen_brain")]
    if measured.empty:
        return
    sought = measured["protocol"].str.removeprefix(RETRIEVAL).str.replace("_", " ")
    medians = measured.assign(sought=sought).pivot_table("retrieval_mm", ["encoder", "method"], "sought")
    title = "retrieval without labels, unseen brain: median mm from the place sought"
    shown = medians.map(lambda mm: "–" if mm != mm else f"{mm:.1f}")
    show(shown.reset_index(), title=title)


def _show_results(settings: Settings) -> None:
    from cytonet_pipeline.evaluation.table.table_text import head_of
    from cytonet_pipeline.scores import without_retrieval
    from cytonet_pipeline.stages import METRICS_TABLE
    from cytonet_pipeline.store import Store, read_table, verified

    store = Store(settings.store)
    path = store.metrics() / "metrics.parquet"
    if not path.exists():
        return
    if not METRICS_TABLE.is_current(settings, None):
        # Scores below an error would be taken for what this run computed.
        err.print(f"{store.metrics()}: of an earlier state of data, settings or store; not shown", soft_wrap=True)
        return
    metrics = read_table(path, "metrics")
    whole = without_retrieval(metrics[metrics["labels_per_area"] == 0])
    # What the table says first about its data and its rows: the reader of figures needs it before the figures.
    out.print("\n" + head_of(verified(store.metrics() / "metrics.md").read_text(encoding="utf-8")), soft_wrap=True)
    scores = whole.pivot_table("macro_f1", ["encoder", "method", "protocol"], "split").reset_index()
    show(scores.rename(columns={"seen_brains": "seen brains", "unseen_brain": "unseen brain"}), title="macro F1")
    _show_retrieval(metrics)
    out.print(f"table   {store.metrics() / 'metrics.md'}", soft_wrap=True)
    out.print(f"plots   {store.root / 'umap'}", soft_wrap=True)
    out.print(f"maps    {store.root / 'area_maps'}", soft_wrap=True)
    out.print("look    cytonet ui, then http://localhost:3000/asset-groups and /runs", soft_wrap=True)
