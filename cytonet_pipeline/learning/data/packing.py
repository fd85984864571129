"""All patches of a training set in shards on a fast disk, read from the scans once.

Encoders that see the same patches at the same pixel size share a pack: `<packs>/<digest>/shard-*.npy`, in the order of
brain, section and patch. Several processes may pack at once: each takes shards that nobody else has taken, so nodes
that share the folder share the work, and nodes with disks of their own pack for themselves.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.learning.data.augmentation import margin_px
from cytonet_pipeline.learning.data.shards import DamagedShard, Shards
from cytonet_pipeline.learning.data.sources import SectionPatches
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.progress import task
from cytonet_pipeline.store import digest_array, digest_of, lock, write_record

Report = Callable[[int, int], None]
# Raised when shards change their form: a pack of another form is another pack.
_FORM = 2
_TRIES = 3
_log = logging.getLogger(__name__)


class PackedPatches:
    """The patches of a training set, by row of its `patches.parquet`.

    Parameters
    ----------
    place : Path
        The pack's folder.
    source : SectionPatches
        The scans: a shard that turns out to be damaged is read from them again.
    patch_id : (N,) uint64 array
        Of every row.
    """

    def __init__(self, place: Path, source: SectionPatches, patch_id: np.ndarray) -> None:
        self.place, self.edge_px, self._source = place, source.edge_px, source
        self.shards = Shards(place, len(patch_id), source.edge_px)
        self._rows = np.lexsort((patch_id, source.section_of))
        self._place = np.empty(len(patch_id), dtype=np.int64)
        self._place[self._rows] = np.arange(len(patch_id))
        self._mending = threading.Lock()

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Patches (len(rows), edge_px, edge_px), uint8, of rows of the training set.

        Raises
        ------
        ScanError
            A damaged shard cannot be read again from the scans.
        StoreError
            Shards come back damaged again and again.
        """
        out = np.empty((len(rows), self.edge_px, self.edge_px), dtype=np.uint8)
        for _ in range(self.shards.count + _TRIES):
            try:
                self.shards.read(self._place[rows], out)
                return out
            except DamagedShard as damaged:
                self._mend(damaged.shard)
        raise StoreError(
            f"{self.place}: what is written there comes back damaged.",
            to_fix="let somebody look at the disk; name another folder with --packs or CYTONET_PACKS",
        )

    def missing(self) -> list[int]:
        """Shards that are still to be written."""
        return [shard for shard in range(self.shards.count) if not self.shards.is_there(shard)]

    def write(self, shard: int, report: Callable[[int], None] = lambda n: None) -> None:
        """Read the patches of a shard from the scans and write them; `report` is told of every section's patches."""
        rows = self._rows[self.shards.span(shard)]
        images = np.empty((len(rows), self.edge_px, self.edge_px), dtype=np.uint8)
        # Nothing else runs meanwhile; large patches of a shard may all lie on one section.
        threads = _usable_cores()
        parts = self._source.parts(rows, at_most=-(-len(rows) // threads))
        with ThreadPoolExecutor(threads) as pool:
            readings = [pool.submit(self._source.read_part, part, images) for part in parts]
            try:
                for reading in readings:
                    report(reading.result())
            finally:
                for reading in readings:
                    reading.cancel()
        self.shards.write(shard, images)

    def _mend(self, shard: int) -> None:
        with self._mending, lock(_lock_of(self, shard), "mending packed patches", wait_s=6 * 3600):
            # Another thread or process may have mended it meanwhile: what was open is the old file.
            self.shards.drop(shard)
            _log.warning("%s: shard %d is damaged and read again from the scans", self.place, shard)
            self.write(shard)


def pack(folder: EncoderFolder, data: Path, packs: Path | None = None, report: Report | None = None) -> PackedPatches:
    """Open the pack of a training set; read what is missing of it from the scans first.

    Parameters
    ----------
    data : Path
        The data set.
    packs : Path, optional
        Folder of all packs; default: `packed` in the encoder's store.
    report : callable, optional
        Told (patches read, patches in all) after each section.

    Raises
    ------
    ScanError
        A scan cannot be read.
    StoreError
        No space is left.
    """
    opened = open_pack(folder, data, packs)
    missing = _rotated(opened.missing())
    total = len(folder.patches)
    if not missing:
        return opened
    _log.info("packing %d patches of %d px into %s", total, opened.edge_px, opened.place)
    spans = [opened.shards.span(shard) for shard in missing]
    done = total - sum(span.stop - span.start for span in spans)
    record = {"form": _FORM, "patches": total, "size_px": opened.edge_px, "pixel_um": folder.block.working_pixel_um}
    write_record(opened.place / "pack.json", record)
    with task("packing patches", total) as shown:

        def told(n: int) -> None:
            nonlocal done
            done = min(total, done + n)
            shown.to(done)
            if report:
                report(done, total)

        while missing:
            _write_what_is_free(opened, missing, told, folder.name)
            missing = _rotated(opened.missing())
            if missing:
                # Others are writing them; meanwhile somebody may want this process to stop.
                told(0)
                time.sleep(0.5)
    return opened


def open_pack(folder: EncoderFolder, data: Path, packs: Path | None = None) -> PackedPatches:
    """The pack of a training set as it is; nothing is written."""
    size = margin_px(folder.work_px, folder.block.augmentation)
    source = SectionPatches(folder, data, size)
    place = (packs or folder.path.parents[2] / "packed") / pack_digest(folder, size)
    return PackedPatches(place, source, folder.patches["patch_id"].to_numpy())


def pack_digest(folder: EncoderFolder, size_px: int) -> str:
    """Name of a pack: what its pixels depend on."""
    columns = ["brain", "sample", "digest", "pixel_um", "window_low", "window_high"]
    sections = folder.sections.sort_values(["brain", "sample"])[columns].astype(object)
    return digest_of(
        {
            "form": _FORM,
            "patches": digest_array(np.sort(folder.patches["patch_id"].to_numpy())),
            "sections": sections.where(pd.notna(sections), None).to_dict("list"),
            "size_px": size_px,
            "pixel_um": folder.block.working_pixel_um,
        }
    )


def _write_what_is_free(opened: PackedPatches, missing: list[int], told: Callable[[int], None], name: str) -> None:
    for shard in missing:
        with _taken(_lock_of(opened, shard), f"packing patches for {name}") as mine:
            if mine and not opened.shards.is_there(shard):
                opened.write(shard, told)


@contextmanager
def _taken(path: Path, purpose: str) -> Iterator[bool]:
    """Hold a lock if it is free."""
    with ExitStack() as stack:
        try:
            stack.enter_context(lock(path, purpose))
        except StoreError:
            yield False
        else:
            yield True


def _usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _lock_of(opened: PackedPatches, shard: int) -> Path:
    return opened.place / f".shard-{shard:05d}.lock"


def _rotated(shards: list[int]) -> list[int]:
    """Nodes start at different places (torchrun's GROUP_RANK), so that they seldom want the same shard."""
    node, nodes = int(os.environ.get("GROUP_RANK", "0")), int(os.environ.get("GROUP_WORLD_SIZE", "1"))
    start = node * len(shards) // max(1, nodes)
    return shards[start:] + shards[:start]
