"""What the store holds of one brain, and what rests on it: everything that `cytonet forget` has to find.

Results of the brain itself lie in its partitions. Evaluations of several brains are found by what their stamps name,
weights by the record of their training set. A test searches a finished store for the brain's name and patch ids.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytonet_pipeline.errors import CytonetError, StoreError
from cytonet_pipeline.settings import WITHOUT_WEIGHTS
from cytonet_pipeline.store import Store, read_record, read_table
from cytonet_pipeline.store.atomic import TEMPORARY_PREFIX
from cytonet_pipeline.store.pins import pin_of
from cytonet_pipeline.store.stamps import stamp_path

if TYPE_CHECKING:
    import pandas as pd

_OWN = ("section_scans", "colin27_transforms", "patch_index")
# In the order of deletion: the stamps of an area map do not name the brains that its probe learned from.
_EVALUATIONS = ("area_maps", "umap", "linear_probes")
_NO_DATA = ("missing", "failed")
# Tables of an encoder's folder from which the rows of one brain can go.
ROW_TABLES = {"sections.parquet": "training_sections", "patches.parquet": "training_patches"}


@dataclass(frozen=True)
class Holding:
    """A file or folder of the store with data of a brain.

    Attributes
    ----------
    path : Path
    why : str
        What it holds, for people.
    table : str
        If only the brain's rows have to go: the table that the file holds. Empty: all of it has to go.
    """

    path: Path
    why: str
    table: str = ""

    @property
    def bytes(self) -> int:
        """Size on disk, everything below it included."""
        inside = [self.path, *self.path.rglob("*")] if self.path.is_dir() else [self.path]
        return sum(each.lstat().st_size for each in inside if each.exists())


@dataclass(frozen=True)
class Weights:
    """One version of an encoder whose weights saw a brain, and how."""

    encoder: str
    version: str
    how: str
    current: bool

    @property
    def label(self) -> str:
        """Name by which other commands know it."""
        return f"{self.encoder}@{self.version}"


def holdings(store: Store, brain: str, *, with_weights: bool = False) -> list[Holding]:
    """Find everything in the store that has to go for a brain to be forgotten.

    Parameters
    ----------
    with_weights : bool
        Also the encoders whose weights saw it.

    Returns
    -------
    list of Holding
        In the order in which it is deleted: what later steps would read first. No path lies inside another.
    """
    found: dict[Path, Holding] = {}
    for holding in _all(store, brain, with_weights=with_weights):
        if holding.path.exists() and not any(parent in found for parent in (holding.path, *holding.path.parents)):
            found[holding.path] = holding
    return list(found.values())


def brains_in_store(store: Store) -> set[str]:
    """Return every brain that has a partition in the store or is listed by a training set there."""
    brains = {path.name.partition("=")[2] for table in _OWN for path in (store.root / table).glob("brain=*")}
    folders = [store.training_set(version) for version in store.training_sets()]
    for folder in [*folders, *(folder for _, _, folder in _versions(store))]:
        with contextlib.suppress(StoreError, OSError, ValueError):
            brains |= set(read_table(folder / "sections.parquet", "training_sections", columns=["brain"])["brain"])
    return brains


def weights_that_saw(store: Store, brain: str) -> list[Weights]:
    """List the trained versions of encoders whose weights saw a brain: in training, by monitoring, or by inheritance.

    A control of random weights is among them if its normalisation comes from the brain. A version whose record
    cannot be read is listed too: it may have seen any brain.
    """
    found = []
    for encoder, version, folder in _versions(store):
        how = _how_seen(folder, brain)
        if how and _is_trained(folder):
            found.append(Weights(encoder, version, how, version == store.current_version(encoder)))
    return found


def unfinished_training_runs(store: Store, brain: str) -> list[tuple[str, Path]]:
    """List encoders, with their folders, whose training run was laid out with a brain and has not finished."""
    return [
        (encoder, folder)
        for encoder, _, folder in _versions(store)
        if not _is_trained(folder) and _knows(folder, brain) is not False
    ]


def _all(store: Store, brain: str, *, with_weights: bool) -> Iterator[Holding]:
    for table in _OWN:
        yield Holding(store.root / table / f"brain={brain}", f"{table.replace('_', ' ')} of the brain")
    yield from (
        Holding(store.root / kind / f"{brain}.json", "samples of the brain") for kind in ("waiting", "accepted")
    )
    yield from _training_sets(store, brain)
    yield from _evaluations(store, brain)
    yield from _encoders(store, brain, with_weights=with_weights)
    yield from _packs(store)
    for page in sorted((store.root / "lineage").glob("*/*.html")):
        yield Holding(page, "lineage page with thumbnails, may be of the brain")
    for folder in sorted((store.root / "jobs").glob(f"*/{brain}")):
        yield Holding(folder, "logs of jobs on the brain")
    # Whatever bears the brain's name, also of steps that are not known here, and what killed runs left of any step.
    for pattern in (f"brain={brain}", f"sub-{brain}", f"sub-{brain}_*"):
        yield from (Holding(path, "bears the brain's name") for path in sorted(store.root.rglob(pattern)))
    for path in sorted(store.root.rglob(f"{TEMPORARY_PREFIX}*")):
        yield Holding(path, "left by a run that was killed, or by one that is at work; may hold any brain")


def _training_sets(store: Store, brain: str) -> Iterator[Holding]:
    """Yield training sets that list the brain, each after what points to it. Trained encoders have their own copy."""
    for version in store.training_sets():
        folder = store.training_set(version)
        if _knows(folder, brain) is False:
            continue
        for pointer in sorted((store.root / "training_sets").glob("*.json")):
            if _version_in(pointer) == version:
                yield Holding(pointer, "points to a training set that lists the brain")
        yield Holding(folder, "training set that lists the brain")


def _evaluations(store: Store, brain: str) -> Iterator[Holding]:
    resting = [pair for pair in _evaluated(store) if _rests_on(store, *pair, brain)]
    if resting:
        yield Holding(store.metrics(), "table of results with scores on the brain")
    for encoder, version in resting:
        label = f"{encoder}@{version}"
        for kind in _EVALUATIONS:
            yield Holding(store.root / kind / encoder / version, f"{kind.replace('_', ' ')} of {label}, made with it")
        features = store.patch_embeddings(encoder, version)
        yield Holding(stamp_path(features), f"stamp of the features of {label}")
        yield Holding(features / f"brain={brain}", f"features of the brain by {label}")


def _evaluated(store: Store) -> list[tuple[str, str]]:
    folders = (f for kind in ("patch_embeddings", *_EVALUATIONS) for f in (store.root / kind).glob("*/*/"))
    return sorted({(f.parent.name, f.name) for f in folders if not f.name.startswith(".")})


def _rests_on(store: Store, encoder: str, version: str, brain: str) -> bool:
    """Whether an evaluation was made with patches of the brain; when in doubt it was, it can be made again."""
    folders = [store.root / kind / encoder / version for kind in ("patch_embeddings", *_EVALUATIONS)]
    if (folders[0] / f"brain={brain}").exists():
        return True
    stamps = [_stamp(path) for folder in folders for path in sorted(folder.rglob("*inputs.json"))]
    if any(_names(stamp, brain) for stamp in stamps):
        return True
    there = [folder for folder in folders if folder.exists()]
    whole = all(stamp_path(folder).exists() for folder in there) and None not in stamps
    return not whole and _knows(store.encoder(encoder, version), brain) is not False


def _encoders(store: Store, brain: str, *, with_weights: bool) -> Iterator[Holding]:
    for encoder, version, folder in _versions(store):
        label, how = f"{encoder}@{version}", _how_seen(folder, brain)
        if not _is_trained(folder):
            if _knows(folder, brain) is not False:
                yield Holding(folder, f"training run of {label} that did not finish and lists the brain")
        elif how and with_weights:
            if version == store.current_version(encoder):
                yield Holding(store.root / "encoders" / encoder / "current.json", f"points to {label}")
            pinned = pin_of(store, encoder)
            if pinned is not None and pinned.pinned == version:
                yield Holding(store.root / "encoders" / encoder / "use.json", f"pins {label}")
            yield Holding(folder, f"weights of {label}, which saw the brain: {how}")
        else:
            if _has_rows(folder / "patches.parquet", brain):
                yield Holding(folder / "patches.parquet", f"patches of the brain in {label}", "training_patches")
            # Of weights that saw the brain the list of sections stays: it is what says so.
            if not how and _has_rows(folder / "sections.parquet", brain):
                yield Holding(folder / "sections.parquet", f"sections of the brain in {label}", "training_sections")


def _packs(store: Store) -> Iterator[Holding]:
    """Yield packed patches, apart from those of encoders that are laid out without the brain.

    A pack does not say which brains it holds; its name is the digest of an encoder's patches and sections. Those of no
    encoder are deleted as well: packs are read again from the scans when they are needed.
    """
    packs = sorted((store.root / "packed").glob("*/"))
    if not packs:
        return
    kept = {_pack_of(folder) for _, _, folder in _versions(store)}
    yield from (Holding(pack, "packed patches, may be of the brain") for pack in packs if pack.name not in kept)


def _pack_of(folder: Path) -> str | None:
    """Return the name of the pack of an encoder's patches; None if its folder cannot be read."""
    from cytonet_pipeline.learning.data.augmentation import margin_px
    from cytonet_pipeline.learning.data.packing import pack_digest
    from cytonet_pipeline.learning.folder import EncoderFolder

    try:
        encoder = EncoderFolder(folder)
        return pack_digest(encoder, margin_px(encoder.work_px, encoder.block.augmentation))
    except (CytonetError, ValueError, KeyError, OSError):
        return None


def _versions(store: Store) -> Iterator[tuple[str, str, Path]]:
    for encoder in store.encoders():
        for version in store.encoder_versions(encoder):
            yield encoder, version, store.encoder(encoder, version)


def _is_trained(folder: Path) -> bool:
    return (folder / "encoder.json").exists()


def _how_seen(folder: Path, brain: str) -> str:
    """Return how the weights in an encoder's folder saw a brain; empty if they did not."""
    try:
        rows = _rows(folder / "sections.parquet", brain)
        record = read_record(folder / "training_set.json")
    except (StoreError, OSError, ValueError):
        return "its record cannot be read, so nobody knows"
    method = record.get("config", {}).get("encoder", {}).get("method")
    if method in WITHOUT_WEIGHTS:
        return ""
    training = rows[rows["n_training_patches"] > 0]
    if len(training):
        n_patches = int(training["n_training_patches"].sum())
        verb = "normalised to" if method == "random" else "trained on"
        return f"{verb} {n_patches} patches of {len(training)} sections"
    if (rows["role"] == "validation").any():
        return "monitored by its validation sections"
    given = record.get("init_from")
    if given is None:
        return ""
    if given.get("sections_seen") is None:
        return f"continues from {given['given']}, of which nobody knows what it was trained on"
    return f"continues from {given['given']}, which was trained on it" if brain in given["sections_seen"] else ""


def _knows(folder: Path, brain: str) -> bool | None:
    """Whether a training set lists a brain; None if it cannot be read."""
    try:
        return not _rows(folder / "sections.parquet", brain).empty
    except (StoreError, OSError, ValueError):
        return None


def _rows(path: Path, brain: str) -> "pd.DataFrame":
    import pyarrow.dataset

    this = pyarrow.dataset.field("brain") == brain
    return read_table(path, ROW_TABLES[path.name], columns=_columns_of(path), where=this)


def _columns_of(path: Path) -> list[str]:
    return ["brain", "role", "n_training_patches"] if path.name == "sections.parquet" else ["brain"]


def _has_rows(path: Path, brain: str) -> bool:
    try:
        return path.exists() and not _rows(path, brain).empty
    except (StoreError, OSError, ValueError):
        return True


def _version_in(pointer: Path) -> str | None:
    try:
        return str(read_record(pointer)["version"])
    except (StoreError, KeyError):
        return None


def _stamp(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _names(stamp: Any, brain: str) -> bool:
    """Whether a stamp names a brain as one whose data went in: with a digest, not as missing."""
    if isinstance(stamp, dict):
        own = stamp.get(brain, "missing")
        digests = own.values() if isinstance(own, dict) else [own]
        return any(digest not in _NO_DATA for digest in digests) or any(
            _names(value, brain) for value in stamp.values()
        )
    return isinstance(stamp, list) and any(_names(value, brain) for value in stamp)
