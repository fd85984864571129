"""Reuse of the last inventory: rows and thumbnails of sections whose files have not changed since.

A brain has hundreds of sections of gigabytes each. The inventory stores with each row a digest of everything that it
was made from, and a section is opened again only if that differs.
"""

import logging
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytonet_pipeline.dataset import Brain, Section, size_and_time
from cytonet_pipeline.dataset.brain_files import follow_warp
from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.histology.inventory.changed_reading import read_otherwise
from cytonet_pipeline.settings import DatasetBlock
from cytonet_pipeline.store import atomic_file, beside, digest_array, digest_of, read_table, verified

# To be increased when the code of the survey gives other rows.
_CODE = 1
_PICTURES = "thumbnails.npz"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Inventory:
    """The sections of a brain.

    Attributes
    ----------
    rows : DataFrame
        Table `section_scans`.
    pictures : dict
        Thumbnail of each section that could be opened, (H, W) uint8, by sample.
    """

    rows: pd.DataFrame
    pictures: dict[str, np.ndarray] = field(default_factory=dict)

    def known(self) -> dict[str, tuple[dict[str, Any], np.ndarray]]:
        """Return row and thumbnail of every section that was opened and is sound, by the digest of its inputs.

        Rejected sections are opened again: the reason may have been the disk.
        """
        if "inputs" not in self.rows:
            return {}
        sound = self.rows[self.rows["status"].isin(["ok", "flagged"]) & self.rows["inputs"].notna()]
        return {
            str(row["inputs"]): ({str(k): v for k, v in row.items()}, self.pictures[row["sample"]])
            for row in sound.to_dict("records")
            if row["sample"] in self.pictures
        }


def write_pictures(folder: Path, pictures: Mapping[str, np.ndarray]) -> None:
    """Write the thumbnails of a brain beside its table."""
    with atomic_file(beside(folder, _PICTURES)) as temporary, temporary.open("wb") as stream:
        named: Any = {f"sample-{name}": picture for name, picture in pictures.items()}
        np.savez_compressed(stream, **named)


def read_inventory(folder: Path) -> Inventory | None:
    """Read the last inventory of a brain; None if there is none that can be reused."""
    try:
        rows = read_table(folder / "sections.parquet", "section_scans")
        with np.load(verified(beside(folder, _PICTURES)), allow_pickle=False) as stored:
            return Inventory(rows, {name.removeprefix("sample-"): stored[name] for name in stored.files})
    except (StoreError, OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        _log.info("%s: not reused: %s", folder, error)
        return None


def _words_of_people(section: Section, block: DatasetBlock) -> dict[str, Any]:
    """Return what settings and tables say where files alone leave a doubt; nothing where they say nothing."""
    words = {"invert": block.invert_of(section.brain), "mask_value": section.mask_value}
    return {key: value for key, value in words.items() if value is not None}


def inputs_digest(section: Section, brain: Brain, block: DatasetBlock) -> str:
    """Return the digest of all that a section's row is made from: files by name, size and time of change, settings."""
    files = [path for path in (section.scan, section.mask, section.annotation) if path is not None]
    if section.warp is not None:
        files += follow_warp(section.warp, (brain.root, *block.allowed_roots)).sources
    areas = section.areas if section.annotation is not None else None
    otherwise = read_otherwise(section, block)
    return digest_of(
        {
            **_words_of_people(section, block),
            **({"otherwise": otherwise} if otherwise else {}),
            "code": _CODE,
            "section": [section.brain, section.sample, section.section, section.status, section.reason],
            "files": [(str(path), *size_and_time(path, with_folder=True)) for path in files],
            "pixel_um": section.pixel_um,
            "window": block.window_of(section.brain),
            "matrix": None if section.matrix is None else digest_array(section.matrix),
            "warp_origin": section.warp_origin,
            "areas": None if areas is None else [sorted(areas.numbers), sorted(areas.by_name.items())],
        }
    )
