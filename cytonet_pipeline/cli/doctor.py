"""What is missing before hours are spent: the machine, the settings, the reference, the data set, the store."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cytonet_pipeline import progress
from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.settings import Settings

_LEAST_FREE_GB = 2


@dataclass(frozen=True)
class Finding:
    """One thing looked at: `ok`, `note` (worth knowing) or `bad` (to mend)."""

    word: str
    text: str

    @property
    def bad(self) -> bool:
        """Whether it has to be mended."""
        return self.word == "bad"

    @property
    def colour(self) -> str:
        """Colour on a terminal."""
        return {"ok": "green", "note": "yellow", "bad": "red"}[self.word]


def examine(settings: Settings) -> list[Finding]:
    """Look at everything that a run needs; faults are findings, not exceptions."""
    findings: list[Finding] = []
    looks = (_machine, _experiments, _reference, _dataset, _store)
    for look in progress.track(looks, "examining"):
        try:
            findings += look(settings)
        except CytonetError as error:
            findings.append(Finding("bad", str(error)))
    return findings


def examine_cluster(settings: Settings) -> list[Finding]:
    """Examine the cluster that `CYTONET_CLUSTER` names, by a job of a minute there."""
    from cytonet_pipeline.cluster.launchers import check_up

    try:
        return [Finding(level, text) for level, text in check_up(settings)]
    except CytonetError as error:
        return [Finding("bad", str(error))]


def _machine(_: Settings) -> Iterator[Finding]:
    import torch

    from cytonet_pipeline.learning.backbones.torchvision_import import torchvision_models

    torchvision_models()
    import torchvision

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} cores, no GPU"
    yield Finding("ok", f"torch {torch.__version__}, torchvision {torchvision.__version__}, {device}")


def _experiments(settings: Settings) -> Iterator[Finding]:
    encoders = settings.experiments.encoders
    yield Finding("ok", f"{settings.experiments_file}: {len(encoders)} encoders ({', '.join(encoders)})")


def _reference(settings: Settings) -> Iterator[Finding]:
    from cytonet_pipeline.registration import ReferenceSpace

    reference = ReferenceSpace.load(settings.reference)
    areas = reference.atlas_labels.loc[reference.atlas_labels["kind"] == "area", "area"].nunique()
    kind = "synthetic reference" if reference.synthetic else "reference"
    yield Finding("ok", f"{settings.reference}: {kind}, {areas} areas")


def _dataset(settings: Settings) -> Iterator[Finding]:
    from cytonet_pipeline.dataset import Dataset

    block = settings.experiments.dataset
    dataset = Dataset(settings.data, block)
    names, released = dataset.brains(), set(dataset.released())
    yield Finding("ok" if released else "bad", f"{settings.data}: {len(names)} brains, {len(released)} released")
    if block.held_out not in names:
        yield Finding("bad", f"held_out: {block.held_out} is not in {settings.data}; no score on an unseen brain")
    for name in names:
        brain = dataset.brain(name)
        usable = [section for section in brain.sections if section.status == "ok"]
        state = "released" if name in released else "not released"
        annotated = sum(section.annotation is not None for section in usable)
        yield Finding(
            "ok" if usable and not brain.problems else "bad",
            f"sub-{name}: {state}, {len(usable)} of {len(brain.sections)} sections usable, {annotated} annotated",
        )
        yield from (Finding("bad", problem) for problem in brain.problems)
        for section in brain.sections:
            if section.status != "ok":
                word = "note" if section.status == "withdrawn" else "bad"
                yield Finding(word, f"sub-{name}, section {section.sample}: {section.status}, {section.reason}")


def _store(settings: Settings) -> Iterator[Finding]:
    from cytonet_pipeline.store import open_store

    there = _nearest_existing(settings.store)
    if not os.access(there, os.W_OK):
        yield Finding("bad", f"{settings.store}: no write permission on {there}")
        return
    if (settings.store / "store.json").exists():
        open_store(settings)
    free_gb = shutil.disk_usage(there).free / 1e9
    yield Finding("ok" if free_gb > _LEAST_FREE_GB else "bad", f"{settings.store}: {free_gb:.0f} GB free")


def _nearest_existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
