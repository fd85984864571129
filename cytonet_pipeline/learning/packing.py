"""All patches of a training set in one memory-mapped file, read from the scans once.

Encoders that see the same patches at the same pixel size share a pack: `<store>/packed/<digest>/patches.npy`, uint8
(patches, edge, edge), in the order of `patch_id`.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.learning.augmentation import margin_px
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.learning.scans import ScanOpener, SectionScans, read_by_section
from cytonet_pipeline.progress import task
from cytonet_pipeline.store import atomic_folder, digest_array, digest_of, lock, read_record, write_record

Report = Callable[[int, int], None]
_log = logging.getLogger(__name__)


class PackedPatches:
    """The patches of a training set, by row of its `patches.parquet`."""

    def __init__(self, folder: Path, patches: pd.DataFrame) -> None:
        self._images = np.load(folder / "patches.npy", mmap_mode="r")
        ids = patches["patch_id"].to_numpy()
        self._place = np.empty(len(ids), dtype=np.int64)
        self._place[np.argsort(ids, kind="stable")] = np.arange(len(ids))

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Patches (len(rows), edge, edge), uint8, of rows of the training set."""
        return np.asarray(self._images[self._place[rows]])


def pack(folder: EncoderFolder, data: Path, packs: Path | None = None, report: Report | None = None) -> PackedPatches:
    """Open the pack of a training set; read it from the scans first if nobody has.

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
        No space is left, or another process has been packing these patches for hours.
    """
    size = margin_px(folder.work_px, folder.block.augmentation)
    digest = pack_digest(folder, size)
    place = (packs or folder.path.parents[2] / "packed") / digest
    if not _whole(place, folder.patches, size):
        with lock(place.parent / f".{digest}.lock", f"packing patches for {folder.name}", wait_s=6 * 3600):
            if not _whole(place, folder.patches, size):
                scans = SectionScans(data, folder.sections)
                _write(place, folder.patches, scans, size, folder.block.working_pixel_um, report)
    return PackedPatches(place, folder.patches)


def pack_digest(folder: EncoderFolder, size_px: int) -> str:
    """Name of a pack: what its pixels depend on."""
    columns = ["brain", "sample", "digest", "pixel_um", "window_low", "window_high"]
    sections = folder.sections.sort_values(["brain", "sample"])[columns].astype(object)
    return digest_of(
        {
            "patches": digest_array(np.sort(folder.patches["patch_id"].to_numpy())),
            "sections": sections.where(sections.notna(), None).to_dict("list"),
            "size_px": size_px,
            "pixel_um": folder.block.working_pixel_um,
        }
    )


def _write(
    place: Path, patches: pd.DataFrame, scans: ScanOpener, size: int, pixel_um: float, report: Report | None
) -> None:
    _log.info("packing %d patches of %d px into %s", len(patches), size, place)
    ordered = patches.sort_values("patch_id", kind="stable").reset_index(drop=True)
    with atomic_folder(place) as temporary, task("packing patches", len(ordered)) as shown:
        packed = np.lib.format.open_memmap(
            temporary / "patches.npy", mode="w+", dtype=np.uint8, shape=(len(ordered), size, size)
        )
        done = 0
        for rows, images in read_by_section(ordered, scans, size, pixel_um):
            packed[rows] = images
            done += len(rows)
            shown.advance(len(rows))
            if report:
                report(done, len(ordered))
        packed.flush()
        write_record(temporary / "pack.json", {"patches": len(ordered), "size_px": size, "pixel_um": pixel_um})


def _whole(place: Path, patches: pd.DataFrame, size: int) -> bool:
    """Whether a pack is there and holds what its name promises."""
    try:
        record = read_record(place / "pack.json")
        shape = np.load(place / "patches.npy", mmap_mode="r").shape
    except (StoreError, OSError, ValueError):
        return False
    return bool(record["patches"] == len(patches) and shape == (len(patches), size, size))
