"""The gate: a newly trained version that scores worse than the one in use is held back until a person decides.

Off by default (`retrain: {gate: …}`). The score is the k-NN accuracy on validation sections, as it was at the end of
each training run; where brains have been added since, these are not the same sections. A version that is held back is
trained and whole, it is not trained again, and evaluation keeps the one in use. A person puts it into use with
`cytonet use ENCODER@VERSION`, or by materialising `encoder` in the UI with `use_despite_gate` in the launchpad.
"""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages.stage import store_of
from cytonet_pipeline.store import Store, read_record, write_pointer
from cytonet_pipeline.store.pins import put_into_use

SCORE = "knn_accuracy"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldBack:
    """A version that was trained and not put into use.

    Attributes
    ----------
    encoder, version : str
    score : float
        k-NN accuracy on validation sections, 0 to 1.
    in_use : str
        The version that stayed in use.
    score_in_use : float
    gate : float
        By how much a score might have been worse.
    """

    encoder: str
    version: str
    score: float
    in_use: str
    score_in_use: float
    gate: float

    @property
    def text(self) -> str:
        """What to tell people, with what they can do."""
        return (
            f"encoder {self.encoder}: version {self.version} is held back by the gate, {self.in_use} stays in use: "
            f"k-NN accuracy on validation sections {self.score:g} after {self.score_in_use:g}, worse by more than "
            f"{self.gate:g}. To use it all the same: cytonet use {self.encoder}@{self.version}, or materialise encoder "
            "with use_despite_gate: true in the launchpad"
        )


def weigh(settings: Settings, encoder: str, version: str) -> HeldBack | None:
    """Return why a trained version must not be put into use; None if it may: without scores too, with a warning."""
    store, gate = store_of(settings), settings.experiments.retrain.gate
    in_use = store.current_version(encoder)
    if gate is None or in_use is None or in_use == version:
        return None
    score, before = _score(store.encoder(encoder, version)), _score(store.encoder(encoder, in_use))
    if score is None or before is None:
        unknown = version if score is None else in_use
        _log.warning(
            "encoder %s: the gate is open, version %s has no k-NN accuracy on validation sections", encoder, unknown
        )
        return None
    if before - score <= gate:
        return None
    return HeldBack(encoder, version, score, in_use, before, gate)


def enter(settings: Settings, encoder: str, version: str, *, despite_gate: bool = False) -> None:
    """Put a trained version into use, unless the gate holds it back or people have pinned another one."""
    held = None if despite_gate else weigh(settings, encoder, version)
    if held is not None:
        hold_back(store_of(settings), held)
        _log.warning("%s", held.text)
        return
    kept = put_into_use(store_of(settings), encoder, version)
    release(store_of(settings), encoder)
    if kept is not None:
        _log.warning("%s; version %s is trained and not put into use", kept.text, version)


def hold_back(store: Store, held: HeldBack) -> None:
    """Record that a version is held back."""
    write_pointer(_path(store, held.encoder), asdict(held))


def held_back(store: Store, encoder: str, version: str) -> HeldBack | None:
    """Return the record of a version that is held back; None once it is in use, or another one has taken its place."""
    path = _path(store, encoder)
    if not path.exists():
        return None
    record = read_record(path)
    held = HeldBack(**{name: record[name] for name in HeldBack.__dataclass_fields__})
    return held if held.version == version and store.current_version(encoder) == held.in_use else None


def gate_texts(store: Store, encoder: str, version: str) -> tuple[str, ...]:
    """Return what to tell people about a version that is held back; nothing of others."""
    held = held_back(store, encoder, version)
    return () if held is None else (held.text,)


def release(store: Store, encoder: str) -> None:
    """Forget that a version was held back."""
    _path(store, encoder).unlink(missing_ok=True)


def _path(store: Store, encoder: str) -> Path:
    return store.root / "encoders" / encoder / "held_back.json"


def _score(folder: Path) -> float | None:
    path = folder / "encoder.json"
    figures: dict[str, Any] = read_record(path).get("figures", {}) if path.exists() else {}
    return figures.get(SCORE)
