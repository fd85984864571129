"""The command that makes the study: synthetic brains, encoders part by part, the page of results."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cytonet_pipeline import progress
from cytonet_pipeline.cli.app import app
from cytonet_pipeline.cli.console import Terminal, err, out, show
from cytonet_pipeline.cli.pipeline import Jobs, materialise
from cytonet_pipeline.settings import Settings, project_file, project_folder
from cytonet_pipeline.store.processes import usable_cores

if TYPE_CHECKING:
    import pandas as pd

_BRAINS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B20")
_SECTIONS = 40
_CORES = usable_cores()
# CPU seconds: painting a section, and ingesting it. The demo took 1.0 and 0.5 on an AMD EPYC; larger brains were not
# timed.
_PAINTING_S, _INGESTING_S = 1.3, 1.5


@app.command()
def study(
    folder: Annotated[
        Path | None, typer.Argument(help="Brains, store and page of results; default: study/ of the project.")
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="Only this part and those before it, such as headline; default: all.")
    ] = None,
    jobs: Jobs = _CORES,
    plan: Annotated[bool, typer.Option("--plan", help="Print what it takes, and compute nothing.")] = False,
    reference: Annotated[
        Path | None, typer.Option(help="Paint the brains from this tpl-MNIColin27 folder instead of a synthetic one.")
    ] = None,
) -> None:
    """Make the study of docs/results.md: brains, encoders in the order of importance, table, figures and page.

    Writes nine synthetic brains of forty sections, unless CYTONET_DATA and CYTONET_REFERENCE name others, and acts on
    experiments/study.yaml, unless CYTONET_EXPERIMENTS names another file. What is current is kept: after a stop, give
    the same command again. Each encoder is trained on one thread, so figures do not depend on the number of cores.
    """
    folder = folder or project_folder() / "study"
    own_brains = not os.environ.get("CYTONET_DATA")
    settings = study_settings(folder, reference)
    chosen = _up_to(settings, part)
    # Worker processes and the definitions of assets read them there.
    os.environ.update(settings.environment())
    left = f"hours that are left, roughly, {jobs} encoders side by side on idle cores"
    show(estimate(settings, chosen, jobs, painted=own_brains), title=f"{settings.experiments_file.name}: {left}")
    if plan:
        return
    if own_brains:
        from cytonet_pipeline.phantom import write_phantom

        with progress.shown_on(Terminal()):
            write_phantom(settings.data.parent, brains=_BRAINS, sections=_SECTIONS, reference=reference)
    ok = materialise(settings, [], chosen, jobs=jobs, threads=1)
    _write_page(settings, folder / "results")
    raise typer.Exit(0 if ok else 1)


def study_settings(folder: Path, reference: Path | None) -> Settings:
    """Return the settings of a study in a folder; variables of the environment come first."""
    brains = folder / "phantom"
    defaults = {
        "CYTONET_DATA": str(brains / "brains"),
        "CYTONET_REFERENCE": str(reference or brains / "tpl-MNIColin27"),
        "CYTONET_STORE": str(folder / "store"),
        "CYTONET_EXPERIMENTS": str(project_file("experiments/study.yaml")),
    }
    stated = {name: value for name, value in os.environ.items() if value}
    return Settings.from_environment({**defaults, **stated})


def estimate(settings: Settings, chosen: list[str], jobs: int, *, painted: bool) -> "pd.DataFrame":
    """Estimate what is left to do: a row per part, with the encoders that no earlier one has.

    Parameters
    ----------
    painted : bool
        Whether brains are painted where there are none yet.
    """
    import pandas as pd

    from cytonet_pipeline.learning.planning.cpu_time import cpu_time, seconds_per_step
    from cytonet_pipeline.stages import LINEAR_PROBE, UMAP_PLOTS

    experiments = settings.experiments
    step_s: dict[tuple[str, int, int], float] = {}
    rows, left = [], list(chosen)
    unpainted = painted and not settings.data.exists()
    if unpainted:
        brains_s = len(_BRAINS) * _SECTIONS * (_PAINTING_S + _INGESTING_S)
        rows.append({"part": "(synthetic brains)", "encoders": 0, "trained": 0, "hours": brains_s / 3600 / jobs})
    for part in [*experiments.parts, ""]:
        names = [name for name in (experiments.encoders_of(part) if part else left) if name in left]
        left = [name for name in left if name not in names]
        open_names = [name for name in names if unpainted or not LINEAR_PROBE.is_current(settings, name)]
        seconds = 0.0
        for name in open_names:
            block = experiments.encoders[name]
            key = (block.backbone, block.batch_size, block.work_px(experiments.dataset.patch_um))
            if block.steps and key not in step_s:
                step_s[key] = seconds_per_step(block, experiments.dataset.patch_um)
            plotted = UMAP_PLOTS.is_requested(settings, name)
            seconds += cpu_time(block, experiments.evaluation, step_s.get(key, 0.0), plotted=plotted).total_s
        if names:
            done = len(names) - len(open_names)
            row = {"part": part or "others", "encoders": len(names), "trained": done, "hours": seconds / 3600 / jobs}
            rows.append(row)
    table = pd.DataFrame(rows, columns=["part", "encoders", "trained", "hours"])
    table["together"] = table["hours"].cumsum()
    return table


def _up_to(settings: Settings, part: str | None) -> list[str]:
    """Return the encoders of a part and of those before it; of the whole file without one."""
    experiments = settings.experiments
    if part is None:
        return experiments.by_importance()
    experiments.encoders_of(part)  # Refuses a part that there is not.
    parts = list(experiments.parts)
    names = [name for each in parts[: parts.index(part) + 1] for name in experiments.encoders_of(each)]
    return list(dict.fromkeys(names))


def _write_page(settings: Settings, folder: Path) -> None:
    from cytonet_pipeline.reporting.study_page import write_study_page
    from cytonet_pipeline.stages import METRICS_TABLE

    if not METRICS_TABLE.is_current(settings, None):
        err.print("no page of results: the table of results is not current", style="yellow", soft_wrap=True)
        return
    out.print(f"results {write_study_page(folder, settings)}", soft_wrap=True)
