"""The inventory of a brain: every section with its quality, or with the reason why it is left out."""

import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from cytonet_pipeline.dataset import SIZE_TOLERANCE, Brain, Section
from cytonet_pipeline.dataset.brain_files import follow_warp
from cytonet_pipeline.errors import DataFault, ScanError
from cytonet_pipeline.histology.annotations.fit import FIT_PX, require_fit
from cytonet_pipeline.histology.annotations.plane import PlaneLabels
from cytonet_pipeline.histology.annotations.reading import (
    annotation_digest,
    mask_digest,
    mask_doubt,
    open_annotation,
    open_mask,
    require_areas,
)
from cytonet_pipeline.histology.inventory.changed_reading import require_plausible
from cytonet_pipeline.histology.inventory.codec_guard import require_decodable, require_decodable_labels
from cytonet_pipeline.histology.inventory.reuse import Inventory, inputs_digest
from cytonet_pipeline.histology.inventory.series import judge
from cytonet_pipeline.histology.quality.intensity import require_intensity
from cytonet_pipeline.histology.quality.measures import measure_quality
from cytonet_pipeline.histology.quality.overview import Overview
from cytonet_pipeline.histology.scan import Scan, open_scan
from cytonet_pipeline.progress import track
from cytonet_pipeline.settings import DatasetBlock
from cytonet_pipeline.store import digest_array, digest_file, digest_of, table

# Reading waits for the network more than for the processor.
_THREADS = 4
_log = logging.getLogger(__name__)
PICTURE_PX = 160
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
    with ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(lambda section: _row(section, brain, block, known), brain.sections)


def _row(section: Section, brain: Brain, block: DatasetBlock, known: _Known) -> _Opened:
    """Make a section's row from its own files alone, and its thumbnail if it can be opened."""
    row = _unopened(section, brain)
    try:
        inputs = inputs_digest(section, brain, block)
        if inputs in known:
            return known[inputs]
        row |= {"transform_digest": placement_digest(section, brain, block), "inputs": inputs}
    except OSError as error:
        reason = (
            f"{error.filename or 'a file of its own'}: cannot be read ({error.strerror or error}); look at the disk."
        )
        return row | {"status": "rejected", "reason": reason, "transform_digest": None, "inputs": ""}, None
    if section.status != "ok" or section.scan is None:
        return row, None
    picture = None
    try:
        window, invert = block.window_of(section.brain), bool(block.invert_of(section.brain))
        with open_scan(section.scan, section.pixel_um, window, invert=invert, pick=section.pick) as scan:
            require_plausible(scan.pixel_um, scan.path, block)
            require_decodable(scan.path, section.pick, scan.compression, scan.bytes)
            scan.verify()
            overview = Overview.of(scan)
            picture = _small(overview.picture)
            doubts = [section.reason, *_open_questions(section, scan), *_described(row, scan, overview)]
            doubts.append(require_intensity(scan, overview, section.brain, block))
            doubts += _labelled_in_spite_of(doubts[-1], row, section, scan)
    except DataFault as fault:
        return row | {"status": "rejected", "reason": _sentence(fault, brain)}, picture
    except OSError as error:
        reason = f"cannot be read ({error.strerror or error}); look at the disk."
        return row | {"status": "rejected", "reason": reason}, picture
    except Exception as error:  # what a library makes of one file must not end the others
        _log.exception("sub-%s, sample %s", section.brain, section.sample)
        reason = f"{section.path}: cannot be read ({type(error).__name__}: {error!s:.120}); copy it from its source."
        return row | {"status": "rejected", "reason": reason}, picture
    remarks = " ".join(doubt for doubt in doubts if doubt)
    return row | {"status": "flagged" if remarks else "ok", "reason": remarks, "remarks": remarks}, picture


def _open_questions(section: Section, scan: Scan) -> list[str]:
    """Return what the scan's file leaves open, as sentences."""
    questions = list(scan.reader.doubts)
    if section.pixel_um is None and scan.reader.size_doubt:
        questions.append(scan.reader.size_doubt)
    return [f"{scan.path.name}: {question}." for question in questions]


def _small(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape
    factor = min(1.0, PICTURE_PX / width, 2 * PICTURE_PX / height)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))


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


def _described(row: dict[str, Any], scan: Scan, overview: Overview) -> list[str]:
    """Fill in size, quality and digest of the scan, and return what a person should check."""
    quality = measure_quality(scan, overview)
    row |= {
        "digest": scan.reader.digest(),
        "bytes": scan.bytes,
        "width_px": scan.width_px,
        "height_px": scan.height_px,
        "pixel_um": scan.pixel_um,
        "levels": len(scan.levels),
        "bits": scan.bits,
        "compression": scan.compression,
        **vars(quality),
    }
    doubts = [_size_doubt(scan)]
    if quality.tissue_fraction == 0:
        doubts.append(f"{scan.path.name} shows no tissue; look at it, and withdraw it if it is empty.")
    return doubts


def _size_doubt(scan: Scan) -> str:
    """Describe pixel sizes that disagree by more than a percent; nothing is rescaled."""
    in_file = scan.file_pixel_um
    if in_file is not None and abs(in_file - scan.pixel_um) > SIZE_TOLERANCE * scan.pixel_um:
        return (
            f"{scan.path.name} says {in_file:g} µm a pixel, sidecar or table {scan.pixel_um:g}; "
            "the latter is used, correct the wrong one."
        )
    conflict = scan.reader.pixel_size_conflict(SIZE_TOLERANCE)
    return f"{scan.path.name}: {conflict}; {scan.pixel_um:g} is used, correct the wrong one." if conflict else ""


def _labelled(row: dict[str, Any], section: Section, scan: Scan) -> list[str]:
    """Fill in mask and annotation, and return what a person should check."""
    if section.mask is None and section.annotation is None:
        return []
    doubts = []
    overview = Overview.of(scan, FIT_PX)
    plane = overview.width_mm, overview.height_mm
    for path in (section.mask, section.annotation):
        require_decodable_labels(path)
    if section.mask is not None:
        mask = open_mask(section, *plane)
        doubts += [_misfit(mask, scan, overview), mask_doubt(mask)]
        row["mask_digest"] = mask_digest(section)
    if section.annotation is not None:
        annotation = open_annotation(section, *plane, scan.pixel_um)
        require_areas(annotation)
        doubts.append(_misfit(annotation, scan, overview))
        row["annotation_digest"] = annotation_digest(annotation)
        if annotation.unknown:
            doubts.append(
                f"{annotation.path.name} has areas that desc-areas_dseg.tsv does not list: "
                f"{', '.join(annotation.unknown[:8])}; they count as not annotated, add them to the table."
            )
    return doubts


def _labelled_in_spite_of(doubt: str, row: dict[str, Any], section: Section, scan: Scan) -> list[str]:
    """Fill in mask and annotation; if they seem wrong, name first what makes the tissue itself doubtful."""
    try:
        return _labelled(row, section, scan)
    except DataFault as fault:
        if not doubt:
            raise
        raise ScanError(f"{doubt} {fault.what}", to_fix=fault.to_fix) from fault


def _misfit(labels: PlaneLabels, scan: Scan, overview: Overview) -> str:
    fit = require_fit(labels, scan, overview)
    return f"{labels.path.name}: {fit}; look whether it is this section's." if fit.doubtful else ""


def placement_digest(section: Section, brain: Brain, block: DatasetBlock) -> str | None:
    """Return the digest of a section's place in its brain: matrix, warp with its files, origin; None if it has none."""
    if section.matrix is None:
        return None
    warp = follow_warp(section.warp, (brain.root, *block.allowed_roots)).sources if section.warp else []
    # The third column is ignored when points are mapped, so it is left out here as well.
    used = section.matrix[:, [0, 1, 3]]
    return digest_of([digest_array(used), section.warp_origin, [digest_file(path) for path in warp]])


def _sentence(fault: DataFault, brain: Brain) -> str:
    remedy = f" To fix: {fault.to_fix}." if fault.to_fix else ""
    return (fault.what + remedy).replace(f"{brain.root}/", "")


def _bytes(path: Path | None) -> int:
    try:
        return path.stat().st_size if path is not None else 0
    except OSError:
        return 0


def _written(path: Path | None, brain: Brain) -> str | None:
    return None if path is None else brain.written(path)
