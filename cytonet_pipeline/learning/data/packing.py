"""Pack all patches of a training set into shards on a fast disk, so that the scans are read only once.

Encoders with the same patches at the same pixel size share a pack: `<packs>/<digest>/shard-*.npy`, in the order of
brain, section and patch. Several processes may pack at once: each takes shards that no other has locked. Nodes that
share the folder thus share the work, and nodes with disks of their own each pack everything.
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
from cytonet_pipeline.store.processes import usable_cores

Report = Callable[[int, int], None]
# Increased when the format of shards changes: it is part of a pack's digest.
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
        The scans, from which a damaged shard is read again.
    patch_id : (N,) uint64 array
        Id of every row.
    """

    def __init__(self, place: Path, source: SectionPatches, patch_id: np.ndarray) -> None:
        self.place, self.edge_px, self._source = place, source.edge_px, source
        self.shards = Shards(place, len(patch_id), source.edge_px)
        self._rows = np.lexsort((patch_id, source.section_of))
        self._place = np.empty(len(patch_id), dtype=np.int64)
        self._place[self._rows] = np.arange(len(patch_id))
        self._repairing = threading.Lock()

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Read patches (len(rows), edge_px, edge_px), uint8, of rows of the training set.

        Raises
        ------
        ScanError
            A damaged shard cannot be read again from the scans.
        StoreError
            Shards are damaged again whenever they are written.
        """
        out = np.empty((len(rows), self.edge_px, self.edge_px), dtype=np.uint8)
        for _ in range(self.shards.count + _TRIES):
            try:
                self.shards.read(self._place[rows], out)
                return out
            except DamagedShard as damaged:
                self._repair(damaged.shard)
        raise StoreError(
            f"{self.place}: shards are damaged again after they have been rewritten.",
            to_fix="have the disk checked; name another folder with --packs or CYTONET_PACKS",
        )

    def missing(self) -> list[int]:
        """List the shards that are still to be written."""
        return [shard for shard in range(self.shards.count) if not self.shards.is_written(shard)]

    def write(self, shard: int, report: Callable[[int], None] = lambda n: None) -> None:
        """Read the patches of a shard from the scans and write them; `report` gets the number read after every part."""
        rows = self._rows[self.shards.span(shard)]
        images = np.empty((len(rows), self.edge_px, self.edge_px), dtype=np.uint8)
        # Nothing else runs meanwhile. Large patches of a shard may all lie on one section.
        threads = usable_cores()
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

    def _repair(self, shard: int) -> None:
        with self._repairing, lock(_lock_of(self, shard), "repairing packed patches", wait_s=6 * 3600):
            # Another thread or process may have repaired it meanwhile: the open file is the old one.
            self.shards.drop(shard)
            _log.warning("%s: shard %d is damaged and read again from the scans", self.place, shard)
            self.write(shard)


def pack(folder: EncoderFolder, data: Path, packs: Path | None = None, report: Report | None = None) -> PackedPatches:
    """Open the pack of a training set, after reading from the scans what it lacks.

    Parameters
    ----------
    data : Path
        The data set.
    packs : Path, optional
        Folder of all packs; default: `packed` in the encoder's store.
    report : callable, optional
        Called with (patches read, patches in total) after every part of a section.

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

        def advance(n: int) -> None:
            nonlocal done
            done = min(total, done + n)
            shown.to(done)
            if report:
                report(done, total)

        while missing:
            _write_unlocked(opened, missing, advance, folder.name)
            missing = _rotated(opened.missing())
            if missing:
                # Others are writing them. `report` may raise, when this process is to stop.
                advance(0)
                time.sleep(0.5)
    return opened


def open_pack(folder: EncoderFolder, data: Path, packs: Path | None = None) -> PackedPatches:
    """Open the pack of a training set as it is; nothing is written."""
    size = margin_px(folder.work_px, folder.block.augmentation)
    source = SectionPatches(folder, data, size)
    place = (packs or folder.path.parents[2] / "packed") / pack_digest(folder, size)
    return PackedPatches(place, source, folder.patches["patch_id"].to_numpy())


def pack_digest(folder: EncoderFolder, size_px: int) -> str:
    """Return the name of a pack: a digest of what its pixels depend on."""
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


def _write_unlocked(opened: PackedPatches, missing: list[int], advance: Callable[[int], None], name: str) -> None:
    """Write those missing shards that no other process is writing."""
    for shard in missing:
        with _locked_if_free(_lock_of(opened, shard), f"packing patches for {name}") as mine:
            if mine and not opened.shards.is_written(shard):
                opened.write(shard, advance)


@contextmanager
def _locked_if_free(path: Path, purpose: str) -> Iterator[bool]:
    """Hold a lock if it is free; yield whether it is held."""
    with ExitStack() as stack:
        try:
            stack.enter_context(lock(path, purpose))
        except StoreError:
            yield False
        else:
            yield True


def _lock_of(opened: PackedPatches, shard: int) -> Path:
    return opened.place / f".shard-{shard:05d}.lock"


def _rotated(shards: list[int]) -> list[int]:
    """Rotate shards by the number of the node (torchrun's GROUP_RANK): nodes seldom start with the same shard."""
    node, nodes = int(os.environ.get("GROUP_RANK", "0")), int(os.environ.get("GROUP_WORLD_SIZE", "1"))
    start = node * len(shards) // max(1, nodes)
    return shards[start:] + shards[:start]
