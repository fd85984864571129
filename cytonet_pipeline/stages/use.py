"""Putting an earlier version of an encoder into use, and going back to the latest: what follows is said beforehand."""

from dataclasses import dataclass
from pathlib import Path

from cytonet_pipeline.errors import ConfigurationError, CytonetError, StoreError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages.evaluation import LINEAR_PROBE, PATCH_EMBEDDINGS
from cytonet_pipeline.stages.metrics_table import METRICS_TABLE
from cytonet_pipeline.stages.plots import AREA_MAPS, UMAP_PLOTS
from cytonet_pipeline.stages.stage import store_of
from cytonet_pipeline.stages.training import ENCODER, is_trained
from cytonet_pipeline.store import Store, current_inputs, faults_in, is_whole, open_store
from cytonet_pipeline.store.pins import UseDecision, pin, pin_of, unpin

_EVALUATIONS = (PATCH_EMBEDDINGS, LINEAR_PROBE, UMAP_PLOTS, AREA_MAPS)


@dataclass(frozen=True)
class UseChange:
    """A change of the version in use, before it is made.

    Attributes
    ----------
    encoder : str
    before : str
        The version in use; empty if there is none.
    after : str
        The version that goes into use; empty if unpinning leaves the present one until another is trained.
    consequences : tuple of str
        What becomes stale and what happens next, one sentence each.
    """

    encoder: str
    before: str
    after: str
    consequences: tuple[str, ...]


def plan_pin(settings: Settings, encoder: str, version: str) -> UseChange:
    """Say what follows if a version is put into use and kept there. Nothing is changed.

    Raises
    ------
    StoreError
        The store has no such encoder or version, or it is damaged.
    TrainingError
        It failed its check.
    ConfigurationError
        It is pinned already.
    """
    from cytonet_pipeline.lineage import compare, folder_of, read_training_set

    store = store_of(settings)
    folder = folder_of(encoder, store, version)
    before = store.current_version(encoder) or ""
    pinned = pin_of(store, encoder)
    if pinned is not None and pinned.pinned == version:
        raise ConfigurationError(pinned.text, to_fix="nothing to do")
    _require_sound(settings, encoder, version)
    if version == before:
        return UseChange(encoder, before, version, ("it is in use already; no other version goes into use any more",))
    differing = compare(read_training_set(store, before), read_training_set(store, folder.name)) if before else []
    return UseChange(encoder, before, version, (*differing, *_consequences(settings, encoder, version)))


def plan_unpin(settings: Settings, encoder: str) -> UseChange:
    """Say what follows if the latest version goes into use again. Nothing is changed.

    Raises
    ------
    ConfigurationError
        No version is pinned.
    """
    from cytonet_pipeline.lineage import folder_of, resolve_training_set

    store = store_of(settings)
    folder_of(encoder, store)
    before = store.current_version(encoder) or ""
    if pin_of(store, encoder) is None:
        raise ConfigurationError(
            f"encoder {encoder}: no version is pinned; {before} is in use.", to_fix="nothing to do: it is the latest"
        )
    try:
        version = resolve_training_set(encoder, settings, store)[0].version
        _require_sound(settings, encoder, version)
    except StoreError:
        return UseChange(encoder, before, "", (f"the next cytonet run trains version {version}",))
    except CytonetError as error:
        return UseChange(encoder, before, "", (f"no other version can be put into use now: {error}",))
    if version == before:
        return UseChange(encoder, before, version, ("it is the latest one; later ones go into use again",))
    return UseChange(encoder, before, version, tuple(_consequences(settings, encoder, version)))


def apply(settings: Settings, change: UseChange, by: str, *, latest: bool = False) -> UseDecision:
    """Make a planned change; who made it and when is kept beside."""
    from cytonet_pipeline.lineage import read_training_set, write_training_set

    store = open_store(settings)
    if change.after:
        write_training_set(store, read_training_set(store, change.after))
    if latest:
        return unpin(store, change.encoder, by, change.after or None)
    return pin(store, change.encoder, change.after, by)


def stale_results(settings: Settings, encoder: str) -> list[str]:
    """Return the names of the results that the next run makes again, of an encoder and the table."""
    if encoder not in settings.experiments.encoders:
        return []
    of_encoder = [stage for stage in _EVALUATIONS if stage.is_requested(settings, encoder)]
    stale = [stage.name for stage in of_encoder if not stage.is_current(settings, encoder)]
    return [*stale, *([] if METRICS_TABLE.is_current(settings, None) else [METRICS_TABLE.name])]


def _require_sound(settings: Settings, encoder: str, version: str) -> None:
    """Refuse a version that is not trained, failed its check, or is damaged."""
    folder = store_of(settings).encoder(encoder, version)
    if not is_trained(folder):
        raise StoreError(
            f"encoder {encoder}: version {version} is not trained.",
            looked_for=str(folder / "encoder.json"),
            to_fix="choose one that is: cytonet use lists them",
        )
    ENCODER.require_sound(settings, encoder, version)
    if not is_whole(folder):
        named = ", ".join(fault.path.name for fault in faults_in(folder)) or "its stamp"
        raise StoreError(
            f"encoder {encoder}: version {version} is damaged or incomplete ({named}).",
            looked_for=str(folder),
            to_fix="restore it from a copy; cytonet doctor --store says what is damaged",
        )


def _consequences(settings: Settings, encoder: str, version: str) -> list[str]:
    store = store_of(settings)
    there = [name for name, place in _results_of(store, encoder, version) if current_inputs(place) is not None]
    missing = [name for name, place in _results_of(store, encoder, version) if current_inputs(place) is None]
    lines = []
    if there:
        lines.append(f"of this version there are {', '.join(there)}: used again if brains and settings are as then")
    if missing:
        lines.append(f"the next cytonet run computes its {', '.join(missing)}")
    lines.append("the table of results is stale: it has the scores of the version in use until now")
    heirs = [
        name
        for name, block in settings.experiments.encoders.items()
        if block.init_from == encoder and not block.retired
    ]
    lines += [f"{name} continues from {encoder} and is trained again by the next cytonet run" for name in heirs]
    return lines


def _results_of(store: Store, encoder: str, version: str) -> list[tuple[str, Path]]:
    return [
        ("features", store.patch_embeddings(encoder, version)),
        ("probes", store.linear_probes(encoder, version)),
        ("UMAP", store.umap(encoder, version)),
        ("area maps", store.area_maps(encoder, version)),
    ]
