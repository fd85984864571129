"""Which version of an encoder people have decided on: pinned to an earlier one, or back to the latest.

`encoders/<encoder>/use.json` keeps every decision, with who and when. While the last one pins a version, no training
run puts another one into use; `current.json` and the decided training set point to the pinned one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from cytonet_pipeline.store.decisions import now
from cytonet_pipeline.store.locks import lock
from cytonet_pipeline.store.paths import Store
from cytonet_pipeline.store.tables import read_record, write_pointer

# Three small files are written meanwhile.
_WAIT_S = 60.0


@dataclass(frozen=True)
class UseDecision:
    """What a person decided about the version of an encoder that is in use.

    Attributes
    ----------
    encoder : str
    pinned : str
        The version that stays in use; empty: the latest one goes into use again.
    before : str
        The version in use until then.
    by, date : str
        Who decided, and when (ISO 8601, UTC).
    """

    encoder: str
    pinned: str
    before: str
    by: str
    date: str

    @property
    def text(self) -> str:
        """One sentence for people, with how to undo it."""
        return (
            f"encoder {self.encoder}: version {self.pinned} is pinned, by {self.by} on {self.date[:10]}; it is not "
            f"trained again, and no other version goes into use. To unpin: cytonet use {self.encoder} --latest"
        )


def decisions_on_use(store: Store, encoder: str) -> list[UseDecision]:
    """Return what people have decided about the version in use, the oldest first."""
    path = _path(store, encoder)
    if not path.exists():
        return []
    return [UseDecision(encoder, **decision) for decision in read_record(path)["decisions"]]


def pin_of(store: Store, encoder: str) -> UseDecision | None:
    """Return the decision that pins an encoder to a version; None if the latest version is the one in use."""
    decisions = decisions_on_use(store, encoder)
    return decisions[-1] if decisions and decisions[-1].pinned else None


def pin_texts(store: Store, encoder: str) -> tuple[str, ...]:
    """Return the sentence on the pin of an encoder; nothing if none is pinned."""
    pinned = pin_of(store, encoder)
    return () if pinned is None else (pinned.text,)


def pins(store: Store) -> dict[str, UseDecision]:
    """Return the decisions that pin encoders, by encoder."""
    found = {encoder: pin_of(store, encoder) for encoder in store.encoders()}
    return {encoder: decision for encoder, decision in found.items() if decision is not None}


def pin(store: Store, encoder: str, version: str, by: str) -> UseDecision:
    """Put a version into use and keep it there. The training set that it was trained on is the decided one again."""
    with _deciding(store, encoder):
        decision = _record(store, encoder, version, by)
        store.point_wanted(encoder, version)
        store.point_current(encoder, version)
    return decision


def unpin(store: Store, encoder: str, by: str, latest: str | None) -> UseDecision:
    """Let the latest version go into use again.

    Parameters
    ----------
    latest : str, optional
        A version to put into use at once. Default: the pinned one stays until another is trained.
    """
    with _deciding(store, encoder):
        decision = _record(store, encoder, "", by)
        if latest is not None:
            store.point_wanted(encoder, latest)
            store.point_current(encoder, latest)
    return decision


def put_into_use(store: Store, encoder: str, version: str) -> UseDecision | None:
    """Make a version current that was trained just now, unless another one is pinned.

    Returns
    -------
    UseDecision or None
        The decision that keeps another version in use; None if this one is in use now.
    """
    with _deciding(store, encoder):
        pinned = pin_of(store, encoder)
        if pinned is not None and pinned.pinned != version:
            return pinned
        store.point_current(encoder, version)
    return None


@contextmanager
def _deciding(store: Store, encoder: str) -> Iterator[None]:
    with lock(store.root / "encoders" / encoder / ".use.lock", f"version of {encoder} in use", wait_s=_WAIT_S):
        yield


def _record(store: Store, encoder: str, pinned: str, by: str) -> UseDecision:
    earlier = decisions_on_use(store, encoder)
    decision = UseDecision(encoder, pinned, store.current_version(encoder) or "", by, now())
    kept = [{key: value for key, value in asdict(each).items() if key != "encoder"} for each in (*earlier, decision)]
    write_pointer(_path(store, encoder), {"encoder": encoder, "decisions": kept})
    return decision


def _path(store: Store, encoder: str) -> Path:
    return store.root / "encoders" / encoder / "use.json"
