"""The inventory of a brain: every section with its quality, or with the reason why it is left out."""

import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytonet_pipeline.dataset import Brain, Section
from cytonet_pipeline.dataset.brain_files import follow_warp
from cytonet_pipeline.histology.inventory.reuse import Inventory, inputs_digest
from cytonet_pipeline.histology.inventory.section_guard import examine
from cytonet_pipeline.histology.inventory.series import judge
from cytonet_pipeline.progress import track
from cytonet_pipeline.settings import DatasetBlock
from cytonet_pipeline.store import digest_array, digest_file, digest_of, table

# Headers are waited for on the network.
_THREADS = 4
_log = logging.getLogger(__name__)
_Known = Mapping[str, tuple[dict[str, Any], np.ndarray]]
_Opened = tuple[dict[str, Any], np.ndarray | None]


def survey(brain: Brain, block: DatasetBlock) -> pd.DataFrame:
    """Open every section of a brain and decide whether it can take part.

    Returns
    -------
    DataFrame
        Table `section_scans`, one row per section in the brain's order. Sections that cannot be opened have 0 where a
        number is required, and their reason; a bad section never raises.
    """
    return take_inventory(brain, block).rows


def take_inventory(brain: Brain, block: DatasetBlock, earlier: Inventory | None = None) -> Inventory:
    """Take the inventory of a brain, with thumbnails.

    Parameters
    ----------
    earlier : Inventory, optional
        The last one: sections whose files and settings are unchanged are taken from it and not opened.
    """
    contract = table("section_scans")
    known = earlier.known() if earlier is not None else {}
    opened = list(track(_opened(brain, block, known), f"sections of {brain.name}", total=len(brain.sections)))
    if not opened:
        return Inventory(contract.empty())
    rows = pd.DataFrame([row for row, _ in opened], columns=[column.name for column in contract.columns])
    pictures = {row["sample"]: picture for row, picture in opened if picture is not None}
    return Inventory(contract.validate(judge(rows, brain)), pictures)


def _opened(brain: Brain, block: DatasetBlock, known: _Known) -> Iterator[_Opened]:
    """Make the row of each section from its own files alone, and its thumbnail if it can be opened, in order."""
    with ThreadPoolExecutor(_THREADS) as pool:
        rows = list(pool.map(lambda section: _begun(section, brain, block), brain.sections))
    to_open = [
        section
        for section, row in zip(brain.sections, rows, strict=True)
        if row["status"] == "ok" and section.scan is not None and row["inputs"] not in known
    ]
    examined = examine(to_open, brain.root, block)
    waiting = {section.sample for section in to_open}
    for section, row in zip(brain.sections, rows, strict=True):
        if section.sample in waiting:
            findings = next(examined)
            if findings.fault:
                _log.error("sub-%s, sample %s: %s", section.brain, section.sample, findings.fault)
            yield row | findings.values, findings.picture
        else:
            yield known.get(row["inputs"], (row, None))


def _begun(section: Section, brain: Brain, block: DatasetBlock) -> dict[str, Any]:
    """Make the row of a section as far as it is known without decoding anything."""
    row = _unopened(section, brain)
    try:
        inputs = inputs_digest(section, brain, block)
        return row | {"inputs": inputs, "transform_digest": placement_digest(section, brain, block)}
    except OSError as error:
        reason = (
            f"{error.filename or 'a file of its own'}: cannot be read ({error.strerror or error}); look at the disk."
        )
        return row | {"status": "rejected", "reason": reason, "transform_digest": None, "inputs": ""}


def _unopened(section: Section, brain: Brain) -> dict[str, Any]:
    """Make the row of a section as far as it is known without opening anything."""
    numbers = dict.fromkeys(("width_px", "height_px", "levels", "bits"), 0)
    return {
        "brain": section.brain,
        "sample": section.sample,
        "section": section.section,
        "path": section.path,
        "bytes": _bytes(section.scan),
        "pixel_um": section.pixel_um,
        "mask_path": _written(section.mask, brain),
        "annotation_path": _written(section.annotation, brain),
        "status": section.status,
        "reason": section.reason,
        "remarks": "",
        "findings": "",
        **numbers,
    }


def placement_digest(section: Section, brain: Brain, block: DatasetBlock) -> str | None:
    """Return the digest of a section's place in its brain: matrix, warp with its files, origin; None if it has none."""
    if section.matrix is None:
        return None
    warp = follow_warp(section.warp, (brain.root, *block.allowed_roots)).sources if section.warp else []
    # The third column is ignored when points are mapped, so it is left out here as well.
    used = section.matrix[:, [0, 1, 3]]
    return digest_of([digest_array(used), section.warp_origin, [digest_file(path) for path in warp]])


def _bytes(path: Path | None) -> int:
    try:
        return path.stat().st_size if path is not None else 0
    except OSError:
        return 0


def _written(path: Path | None, brain: Brain) -> str | None:
    return None if path is None else brain.written(path)
