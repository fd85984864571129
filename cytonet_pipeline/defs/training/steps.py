"""What deciding, preparing and collecting a training read and write. No Dagster here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytonet_pipeline.errors import TrainingError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store, open_store, read_record, read_table


@dataclass(frozen=True)
class Decided:
    """A training set, as told to people."""

    version: str
    figures: dict[str, Any]
    changes: str


@dataclass(frozen=True)
class Collected:
    """A finished training, as told to people."""

    version: str
    folder: Path
    figures: dict[str, Any]


def decide_training_set(settings: Settings, encoder: str) -> Decided:
    """Decide what an encoder may see, write it down, and say how it differs from what the current one saw."""
    from cytonet_pipeline.lineage import resolve_training_set, would_change, write_training_set

    store = open_store(settings)
    changes = would_change(encoder, settings, store)
    decided, _ = resolve_training_set(encoder, settings, store)
    write_training_set(store, decided)
    store.point_wanted(encoder, decided.version)
    sections = decided.sections
    roles = sections["role"].value_counts()
    figures = {
        "version": decided.version,
        "brains": int(sections["brain"].nunique()),
        **{f"sections {role}": int(n) for role, n in roles.items()},
        "patches": int(sections["n_training_patches"].sum()),
        "left out": decided.record.get("left_out", {}),
        "warnings": decided.record.get("warnings", []),
    }
    if changes is None:
        told = "first training of this encoder"
    else:
        told = "\n".join(f"* {line}" for line in changes) or "nothing: the current encoder saw exactly this"
    return Decided(decided.version, figures, told)


def prepare_encoder(settings: Settings, encoder: str, *, recompute: bool = False) -> Path:
    """Lay out the folder of the wanted version; a complete one is left alone."""
    import shutil

    from cytonet_pipeline.learning.prepare import prepare

    store = open_store(settings)
    folder = _wanted_folder(store, encoder)
    if recompute and folder.exists():
        _require_nobody_trains(settings, encoder, folder)
        shutil.rmtree(folder)
    return prepare(settings, store, encoder)


def collect_encoder(settings: Settings, encoder: str) -> Collected:
    """Check that the training is whole, draw its curves, and point `current.json` to it; with what its job took."""
    from cytonet_pipeline.cluster.job import facts
    from cytonet_pipeline.learning.prepare import finish
    from cytonet_pipeline.reporting.curves import training_curves

    store = Store(settings.store)
    folder = _wanted_folder(store, encoder)
    finish(folder)
    record = read_record(folder / "encoder.json")
    if (folder / "history.parquet").exists():
        history = read_table(folder / "history.parquet", "history")
        if not history.empty:
            training_curves(history, folder / "curves.png", title=encoder)
    store.point_current(encoder, folder.name)
    figures = {"version": folder.name, **record.get("figures", {}), "problems": record.get("problems", [])}
    figures |= facts(folder)
    return Collected(folder.name, folder, figures)


def _require_nobody_trains(settings: Settings, encoder: str, folder: Path) -> None:
    """With the folder its job's record would go: nobody would find the job, and a second one would be submitted."""
    from cytonet_pipeline.cluster.launchers import launcher_of

    attempt = launcher_of(settings, encoder, lambda line: None).running(folder)
    if attempt is not None:
        raise TrainingError(
            f"encoder {encoder}: attempt {attempt.number} ({attempt.label}) waits or runs; it is not thrown away.",
            looked_for=str(attempt.place),
            to_fix="run without recompute to join it, or terminate its run first",
        )


def _wanted_folder(store: Store, encoder: str) -> Path:
    version = store.wanted_version(encoder)
    if version is None:
        raise TrainingError(
            f"encoder {encoder}: no training set has been decided.",
            looked_for=str(store.root / "training_sets" / f"{encoder}.json"),
            to_fix="materialise training_set first, or: cytonet run --encoders " + encoder,
        )
    return store.encoder(encoder, version)
