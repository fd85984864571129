"""What the store holds and nobody needs: leftovers of killed runs, caches, results of versions that are not current.

Never part of it: weights, records and training sets of trained encoders, current or not, because lineage answers for
them; and whatever was written lately, because a run may be at work there.
"""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cytonet_pipeline.store.atomic import TEMPORARY_PREFIX
from cytonet_pipeline.store.paths import Store

_EVALUATIONS = ("patch_embeddings", "linear_probes", "umap", "area_maps")
_LATELY_S = 24 * 3600.0


@dataclass(frozen=True)
class Garbage:
    """A file or folder that may be deleted.

    Attributes
    ----------
    path : Path
    bytes : int
        Its size on disk, everything below it included.
    why : str
        Why nobody needs it.
    """

    path: Path
    bytes: int
    why: str

    def delete(self) -> None:
        """Delete it."""
        if self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)


def find_garbage(store: Store, lately_s: float = _LATELY_S) -> list[Garbage]:
    """Find what no current encoder, table or lineage record needs.

    Parameters
    ----------
    lately_s : float
        What was written within this many seconds is left alone.

    Returns
    -------
    list of Garbage
        Largest first; no path lies inside another.
    """
    garbage: dict[Path, Garbage] = {}
    before = time.time() - lately_s
    for path, why in _candidates(store):
        size, written = _size_and_last_write(path)
        if written < before and not any(parent in garbage for parent in path.parents):
            garbage[path] = Garbage(path, size, why)
    return sorted(garbage.values(), key=lambda item: item.bytes, reverse=True)


def _candidates(store: Store) -> Iterator[tuple[Path, str]]:
    yield from _old_evaluations(store)
    yield from _abandoned_training(store)
    yield from _finished_checkpoints(store)
    yield from _packs(store)
    yield from _unused_training_sets(store)
    for path in sorted(store.root.rglob(f"{TEMPORARY_PREFIX}*")):
        yield path, "left by a run that was killed"


def _old_evaluations(store: Store) -> Iterator[tuple[Path, str]]:
    for kind in _EVALUATIONS:
        for folder in sorted((store.root / kind).glob("*/*/")):
            encoder, version = folder.parent.name, folder.name
            if version.startswith("."):
                continue
            if version not in {store.current_version(encoder), store.wanted_version(encoder)}:
                yield folder, f"{kind} of a version of {encoder} that is not current; `cytonet run` makes them again"


def _versions(store: Store) -> Iterator[tuple[str, str]]:
    for encoder in store.encoders():
        for version in store.encoder_versions(encoder):
            yield encoder, version


def _is_trained(store: Store, encoder: str, version: str) -> bool:
    return (store.encoder(encoder, version) / "encoder.json").exists()


def _is_collected(store: Store, encoder: str, version: str) -> bool:
    # Curves are drawn after training was found complete; a record alone is only the training run's own word.
    curves = store.encoder(encoder, version) / "curves.png"
    return _is_trained(store, encoder, version) and curves.exists()


def _abandoned_training(store: Store) -> Iterator[tuple[Path, str]]:
    for encoder, version in _versions(store):
        if not _is_trained(store, encoder, version) and version != store.wanted_version(encoder):
            yield store.encoder(encoder, version), f"training of {encoder} that never ended and is not needed any more"


def _finished_checkpoints(store: Store) -> Iterator[tuple[Path, str]]:
    for encoder, version in _versions(store):
        checkpoints = store.encoder(encoder, version) / "checkpoints"
        if _is_collected(store, encoder, version) and checkpoints.is_dir() and any(checkpoints.iterdir()):
            yield checkpoints, f"checkpoints of {encoder}, which is trained"


def _packs(store: Store) -> Iterator[tuple[Path, str]]:
    wanted = ((encoder, store.wanted_version(encoder)) for encoder in store.encoders())
    if all(version is None or _is_trained(store, encoder, version) for encoder, version in wanted):
        for pack in sorted((store.root / "packed").glob("*/")):
            yield pack, "patches packed for training that is done; the next run reads them from the scans again"


def _unused_training_sets(store: Store) -> Iterator[tuple[Path, str]]:
    pointers = store.root.glob("training_sets/*.json")
    needed = {version for _, version in _versions(store)} | {store.wanted_version(path.stem) for path in pointers}
    for version in store.training_sets():
        if version not in needed:
            yield store.training_set(version), "training set that no encoder was trained on"


def _size_and_last_write(path: Path) -> tuple[int, float]:
    """Return the bytes of a file or folder, and when something in it was last written (s since the epoch)."""
    inside = [path, *path.rglob("*")] if path.is_dir() else [path]
    states = [each.lstat() for each in inside if each.exists()]
    return sum(state.st_size for state in states), max((state.st_mtime for state in states), default=0.0)
