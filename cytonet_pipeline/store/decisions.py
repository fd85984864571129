"""What people decided about brains, as records in the store: forgotten for good, or a loss of sections accepted.

`forgotten/B20.json` keeps a brain out after its data have gone. It holds the brain's name, who decided and when,
and nothing else about the brain. `waiting/B03.json` is what an ingestion left that would have lost too many sections,
`accepted/B03.json` the confirmation.
"""

import getpass
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.store.paths import Store
from cytonet_pipeline.store.tables import read_record, write_record


@dataclass(frozen=True)
class Forgotten:
    """The record of a brain that was taken out of the store.

    Attributes
    ----------
    brain : str
    by, date : str
        Who decided, and when (ISO 8601, UTC).
    finished : bool
        Whether everything has been deleted; a run that was killed is continued by the same command.
    weights : tuple of str
        Encoders (`name@version`) whose weights saw the brain and were kept.
    readmitted : str
        Who took it back, and when; empty while the brain is to stay out.
    """

    brain: str
    by: str
    date: str
    finished: bool = False
    weights: tuple[str, ...] = ()
    readmitted: str = ""

    @property
    def text(self) -> str:
        """One sentence for people."""
        return f"sub-{self.brain} was forgotten on {self.date[:10]} by {self.by}"


def forgotten_brains(store: Store) -> dict[str, Forgotten]:
    """Return the brains that were forgotten and not readmitted, by name."""
    records = (_read_forgotten(path) for path in _records(store.root / "forgotten"))
    return {record.brain: record for record in records if not record.readmitted}


def write_forgotten(store: Store, record: Forgotten) -> None:
    """Write the record of a brain; an earlier one is replaced."""
    write_record(store.root / "forgotten" / f"{record.brain}.json", asdict(record))


def require_not_forgotten(store: Store, brain: str) -> None:
    """Refuse to take a forgotten brain in again.

    Raises
    ------
    StoreError
        The brain was forgotten.
    """
    record = forgotten_brains(store).get(brain)
    if record is not None:
        raise forgotten_fault(record)


def forgotten_fault(record: Forgotten) -> StoreError:
    """Return what to tell somebody who finds a forgotten brain in the data set."""
    return StoreError(
        f"{record.text}; it is not ingested again.",
        to_fix=f"remove it from the data set; if consent was given anew: cytonet forget {record.brain} --undo",
        meanwhile="the other brains go on",
    )


@dataclass(frozen=True)
class Loss:
    """Sections that a brain would lose: `waiting` for confirmation, or `accepted` by one.

    Attributes
    ----------
    brain : str
    lost : dict
        By sample, why it would be lost.
    whole : bool
        The brain itself has vanished from the data set.
    fingerprint : str
        Of the brain's files when an ingestion found the loss; empty if the files' names alone show it.
    by, date : str
        Who decided, and when; empty while it waits.
    applied : bool
        The brain has been ingested since: the confirmation was for that loss and not for the next one.
    """

    brain: str
    lost: dict[str, str]
    whole: bool = False
    fingerprint: str = ""
    by: str = ""
    date: str = ""
    applied: bool = False


def read_loss(store: Store, kind: str, brain: str) -> Loss | None:
    """Return a loss that waits for confirmation (`waiting`) or was confirmed (`accepted`); None if there is none."""
    path = _loss_path(store, kind, brain)
    return Loss(**_fields(read_record(path), Loss)) if path.exists() else None


def losses(store: Store, kind: str) -> list[Loss]:
    """Return all losses that wait for confirmation (`waiting`) or were confirmed (`accepted`)."""
    return [Loss(**_fields(read_record(path), Loss)) for path in _records(store.root / kind)]


def write_loss(store: Store, kind: str, loss: Loss) -> None:
    """Write a loss that waits for confirmation, or was confirmed."""
    write_record(_loss_path(store, kind, loss.brain), asdict(loss))


def remove_loss(store: Store, kind: str, brain: str) -> None:
    """Remove a loss that waits for confirmation, or was confirmed."""
    _loss_path(store, kind, brain).unlink(missing_ok=True)


def paths_about(store: Store, brain: str) -> list[Path]:
    """Return where decisions about a brain lie, whether or not there are any."""
    return [_loss_path(store, kind, brain) for kind in ("forgotten", "waiting", "accepted")]


def user_name() -> str:
    """Return the name of the user who runs this process, `unknown` where the system has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def now() -> str:
    """Return the present time as records have it (ISO 8601, UTC)."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _loss_path(store: Store, kind: str, brain: str) -> Path:
    return store.root / kind / f"{brain}.json"


def _read_forgotten(path: Path) -> Forgotten:
    values = _fields(read_record(path), Forgotten)
    return Forgotten(**{**values, "weights": tuple(values["weights"])})


def _records(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.glob("*.json")) if not path.name.startswith("."))


def _fields(record: dict[str, Any], kind: type[Forgotten] | type[Loss]) -> dict[str, Any]:
    return {name: record[name] for name in kind.__dataclass_fields__ if name in record}
