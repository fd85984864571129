"""The command that says what is missing before hours are spent.

It examines the machine, the settings, the reference, the data set and the store; the cluster on request.
"""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from cytonet_pipeline import progress
from cytonet_pipeline.cli.app import app
from cytonet_pipeline.cli.console import Terminal, out
from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.settings import Settings, read_all_experiments

if TYPE_CHECKING:
    from cytonet_pipeline.dataset import Brain
    from cytonet_pipeline.settings import DatasetBlock

_LEAST_FREE_GB = 2
# A fault of the whole brain is a fault of hundreds of sections.
_MOST_SECTIONS = 20


@app.command()
def doctor(
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Examine the cluster too: submits a job of a minute to its queue.")
    ] = False,
    store: Annotated[
        bool, typer.Option("--store", help="Read every file of the store and compare it with what was written.")
    ] = False,
) -> None:
    """Say what is missing on this machine, in the reference, the data set and the cluster, before hours are spent."""
    settings = Settings.from_environment()
    with progress.shown_on(Terminal()):
        observations = examine(settings)
        observations += examine_store(settings) if store else []
        observations += examine_cluster(settings) if cluster else []
    # What two examinations stumble over is one thing to fix.
    observations = list(dict.fromkeys(observations))
    for observation in observations:
        level = Text(f"{observation.level:>5}", style=observation.colour)
        out.print(level, observation.text, sep="  ", soft_wrap=True)
    to_fix = sum(observation.bad for observation in observations)
    out.print(f"{to_fix} to fix" if to_fix else "ready")
    raise typer.Exit(1 if to_fix else 0)


@dataclass(frozen=True)
class Observation:
    """One thing that was examined: `ok`, `note` (worth knowing) or `bad` (to be fixed)."""

    level: str
    text: str

    @property
    def bad(self) -> bool:
        """Whether it has to be fixed."""
        return self.level == "bad"

    @property
    def colour(self) -> str:
        """Colour on a terminal."""
        return {"ok": "green", "note": "yellow", "bad": "red"}[self.level]


def examine(settings: Settings) -> list[Observation]:
    """Examine everything that a run needs; faults are observations, not exceptions."""
    observations: list[Observation] = []
    examinations = (
        _machine, _back_end, _experiments, _reference, _dataset, _transforms, _members, _store, _word_of_people,
    )  # fmt: skip
    for examination in progress.track(examinations, "examining"):
        try:
            observations += examination(settings)
        except CytonetError as error:
            observations.append(Observation("bad", str(error)))
    return observations


def examine_cluster(settings: Settings) -> list[Observation]:
    """Examine the cluster that `CYTONET_CLUSTER` names with a job that runs there for a minute."""
    from cytonet_pipeline.cluster.launchers import check_up

    try:
        return [Observation(level, text) for level, text in check_up(settings)]
    except CytonetError as error:
        return [Observation("bad", str(error))]


def examine_store(settings: Settings) -> list[Observation]:
    """Compare every file of the store with the digest that was recorded when it was written."""
    from cytonet_pipeline.store import Store
    from cytonet_pipeline.store.examination import examine as examine_files

    if not settings.store.exists():
        return [Observation("note", f"{settings.store}: there is no store yet")]
    examined = examine_files(Store(settings.store))
    observations = [Observation("bad", fault) for fault in examined.faults]
    compared = f"{examined.files:,} files ({examined.bytes / 1e9:.1f} GB) of {examined.results:,} results"
    observations.append(Observation("ok", f"{settings.store}: {compared} compared, {len(examined.faults)} damaged"))
    if examined.undigested:
        without = f"{examined.undigested} results of version 0.2.1 have no digests yet; the next run records them"
        observations.append(Observation("note", f"{settings.store}: {without}"))
    return observations


def _machine(_: Settings) -> Iterator[Observation]:
    import torch

    from cytonet_pipeline.learning.backbones.torchvision_import import torchvision_models

    torchvision_models()
    import torchvision

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} cores, no GPU"
    yield Observation("ok", f"torch {torch.__version__}, torchvision {torchvision.__version__}, {device}")


def _back_end(settings: Settings) -> Iterator[Observation]:
    from cytonet_pipeline.cluster.launchers import require_backend

    title = require_backend(settings).title
    yield Observation("ok", f"CYTONET_CLUSTER={settings.cluster}: training runs on {title}")
    yield Observation("ok", f"CYTONET_TIMEZONE={settings.known_timezone()}: time zone of the schedule retrain")


def _experiments(settings: Settings) -> Iterator[Observation]:
    # A run reads the files beside it, too: they name the encoders that Dagster knows.
    read_all_experiments(settings.experiments_file)
    encoders = settings.experiments.encoders
    pretrained = {name: block for name, block in encoders.items() if block.method == "pretrained" and not block.retired}
    if pretrained:
        from cytonet_pipeline.learning.backbones.external import problem_of

        problems = (problem_of(name, block) for name, block in pretrained.items())
        yield from (Observation("bad", problem) for problem in problems if problem)
    yield Observation("ok", f"{settings.experiments_file}: {len(encoders)} encoders ({', '.join(encoders)})")
    from cytonet_pipeline.defs.training.cron import known_cron

    yield Observation("ok", f"retrain.cron {known_cron(settings)}: when the schedule retrain ticks")


def _reference(settings: Settings) -> Iterator[Observation]:
    from cytonet_pipeline.registration import ReferenceSpace

    reference = ReferenceSpace.load(settings.reference)
    areas = reference.atlas_labels.loc[reference.atlas_labels["kind"] == "area", "area"].nunique()
    kind = "synthetic reference" if reference.synthetic else "reference"
    yield Observation("ok", f"{settings.reference}: {kind}, {areas} areas")
    yield from (Observation("note", note) for note in reference.notes)


def _dataset(settings: Settings) -> Iterator[Observation]:
    from cytonet_pipeline.dataset import Dataset

    block = settings.experiments.dataset
    dataset = Dataset(settings.data, block)
    names, released = dataset.brains(), set(dataset.released())
    yield Observation("ok" if released else "bad", f"{settings.data}: {len(names)} brains, {len(released)} released")
    yield from (Observation("bad", text) for text in dataset.names_passed_over())
    yield from (Observation("note", text) for text in dataset.strays())
    for name in names:
        brain = dataset.brain(name)
        examined = _inventory(settings, name) or _headers(brain, block)
        usable = [s for s in brain.sections if s.status == "ok" and examined.get(s.sample, ("",))[0] != "rejected"]
        state = "released" if name in released else "not released"
        annotated = sum(section.annotation is not None for section in usable)
        yield Observation(
            "ok" if usable and not brain.problems else "bad",
            f"sub-{name}: {state}, {len(usable)} of {len(brain.sections)} sections usable, {annotated} annotated",
        )
        yield from (Observation("bad", problem) for problem in brain.problems)
        if name not in released and (fault := dataset.file_of_the_future(name)):
            yield Observation("bad", f"sub-{name}: {fault}")
        yield from _sections(brain, examined)
        yield from (Observation("note", f"sub-{name}: {note}") for note in brain.notes)


def _members(settings: Settings) -> Iterator[Observation]:
    from cytonet_pipeline.lineage import examine_members
    from cytonet_pipeline.stages.waiting import vanished_brains
    from cytonet_pipeline.store import Store

    findings = examine_members(settings, Store(settings.store), vanished_brains(settings))
    yield from (Observation(level, text) for level, text in findings)


def _sections(brain: "Brain", examined: dict[str, tuple[str, str]]) -> Iterator[Observation]:
    """Report the sections of a brain that are not plainly `ok`, by its files or by what was found in them."""
    counts: Counter[str] = Counter()
    for section in brain.sections:
        reason = section.reason
        status = "flagged" if section.status == "ok" and reason else str(section.status)
        if section.status == "ok":
            status, reason = examined.get(section.sample, (status, reason))
        if status == "ok":
            continue
        counts[status] += 1
        if counts[status] <= _MOST_SECTIONS:
            level = "bad" if status == "rejected" else "note"
            yield Observation(level, f"sub-{brain.name}, section {section.sample}: {status}, {reason}")
    for status, count in counts.items():
        if count > _MOST_SECTIONS:
            yield Observation("note", f"sub-{brain.name}: {count - _MOST_SECTIONS} more sections are {status}")


def _inventory(settings: Settings, brain: str) -> dict[str, tuple[str, str]]:
    """Return status and reason of each section as its files were found, if they have not changed since."""
    from cytonet_pipeline.stages import SECTION_SCANS
    from cytonet_pipeline.store import read_table

    try:
        if not SECTION_SCANS.is_current(settings, brain):
            return {}
        rows = read_table(SECTION_SCANS.folder(settings, brain) / "sections.parquet", "section_scans")
    except CytonetError:
        return {}  # What is wrong with the store is not a matter of the data set.
    return {str(row.sample): (str(row.status), str(row.reason)) for row in rows.itertuples()}


def _headers(brain: "Brain", block: "DatasetBlock") -> dict[str, tuple[str, str]]:
    """Return what a scan is rejected for by its header alone, by section; no pixel is read."""
    from cytonet_pipeline.histology import open_scan, require_plausible

    rejected = {}
    for section in brain.sections:
        if section.status != "ok" or section.scan is None:
            continue
        try:
            with open_scan(section.scan, section.pixel_um, pick=section.pick) as scan:
                require_plausible(scan.pixel_um, scan.path, block)
        except (CytonetError, OSError) as fault:
            rejected[section.sample] = ("rejected", str(fault))
    return rejected


def _transforms(settings: Settings) -> Iterator[Observation]:
    """Read the transforms of each brain; whether they fit is measured by `cytonet run`."""
    from cytonet_pipeline.dataset import Dataset
    from cytonet_pipeline.registration import resolve_chain

    dataset = Dataset(settings.data, settings.experiments.dataset)
    for name in dataset.brains():
        brain = dataset.brain(name)
        if brain.to_reference is None:
            continue  # Reported with the data set.
        try:
            chain = resolve_chain(brain)
        except CytonetError as fault:
            yield Observation("bad", f"sub-{name}: {fault}")
            continue
        yield from (Observation("note", f"sub-{name}: {note}") for note in chain.notes)
        for sample, reason in chain.left_out.items():
            yield Observation("bad", f"sub-{name}, section {sample}: left out, {reason}")


def _store(settings: Settings) -> Iterator[Observation]:
    from cytonet_pipeline.store import require_claim

    existing = _nearest_existing(settings.store)
    try:
        # Permission bits do not tell of read-only mounts, quotas, or what root may do.
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        yield Observation("bad", f"{settings.store}: {existing} cannot be written to ({error.strerror})")
        return
    if (settings.store / "store.json").exists():
        require_claim(settings)
    free_gb = shutil.disk_usage(existing).free / 1e9
    yield Observation("ok" if free_gb > _LEAST_FREE_GB else "bad", f"{settings.store}: {free_gb:.0f} GB free")


def _word_of_people(settings: Settings) -> Iterator[Observation]:
    """Report brains that wait for confirmation, and forgotten ones that left something or are offered again."""
    from cytonet_pipeline.dataset import Dataset
    from cytonet_pipeline.stages.holdings import holdings, weights_that_saw
    from cytonet_pipeline.stages.waiting import fault_of, waiting_brains
    from cytonet_pipeline.store import Store
    from cytonet_pipeline.store.decisions import forgotten_brains, forgotten_fault

    store = Store(settings.store)
    for brain, record in forgotten_brains(store).items():
        again = f"cytonet forget {brain} --yes"
        if not record.finished:
            yield Observation("bad", f"{record.text}, but not completely: {again}")
        elif holdings(store, brain):
            yield Observation("bad", f"{record.text}, but the store holds data of it again: {again}")
        weights = ", ".join(each.label for each in weights_that_saw(store, brain))
        rest = f"; still there are weights that saw it: {weights} (delete them with {again} --with-weights)"
        yield Observation("note", f"{record.text}{rest if weights else ''}")
    names = Dataset(settings.data, settings.experiments.dataset).brains()
    for brain in sorted(set(names) & forgotten_brains(store).keys()):
        yield Observation("note", str(forgotten_fault(forgotten_brains(store)[brain])))
    yield from (Observation("bad", str(fault_of(settings, loss))) for loss in waiting_brains(settings).values())


def _nearest_existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
