"""What one section's own files tell: its part of a row of the inventory, or the reason why the section is left out.

All native code that a survey runs over strangers' files runs below here: `section_guard` has it done in processes of
their own.
"""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from cytonet_pipeline.dataset import SIZE_TOLERANCE, Section
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
from cytonet_pipeline.histology.quality.intensity import require_intensity
from cytonet_pipeline.histology.quality.measures import measure_quality
from cytonet_pipeline.histology.quality.overview import Overview
from cytonet_pipeline.histology.scan import Scan, open_scan
from cytonet_pipeline.settings import DatasetBlock

PICTURE_PX = 160
# Told which file is about to be decoded.
Announce = Callable[[str], None]


class Findings(NamedTuple):
    """What was found in the files of a section.

    Attributes
    ----------
    values : dict
        The columns of its row that follow from its files.
    picture : (H, W) uint8 array or None
        Thumbnail of the scan, if that can be read.
    fault : str
        The traceback of what a library raised over the files without this package having expected it; else empty.
    """

    values: dict[str, Any]
    picture: np.ndarray | None = None
    fault: str = ""


def examine_section(section: Section, root: Path, block: DatasetBlock, announce: Announce) -> Findings:
    """Open scan, mask and annotation of a section, and decide whether it can take part; never raises over a file.

    Parameters
    ----------
    root : path
        The data set's folder: reasons name paths relative to it.
    announce : callable
        Called with a description of each file, before it is decoded.
    """
    values: dict[str, Any] = {}
    picture, scan_path = None, section.scan
    assert scan_path is not None
    try:
        window, invert = block.window_of(section.brain), bool(block.invert_of(section.brain))
        with open_scan(scan_path, section.pixel_um, window, invert=invert, pick=section.pick) as scan:
            require_plausible(scan.pixel_um, scan.path, block)
            announce(f"{scan.path}: decoding its {scan.compression}")
            scan.verify()
            overview = Overview.of(scan)
            picture = _small(overview.picture)
            doubts = [section.reason, *_open_questions(section, scan), *_described(values, scan, overview)]
            doubts.append(require_intensity(scan, overview, section.brain, block))
            doubts += _labelled_in_spite_of(doubts[-1], values, section, scan, announce)
    except DataFault as fault:
        return _rejected(values, sentence(fault, root), picture)
    except OSError as error:
        return _rejected(values, f"cannot be read ({error.strerror or error}); look at the disk.", picture)
    except Exception as error:  # what a library makes of one file must not end the others
        reason = f"{section.path}: cannot be read ({type(error).__name__}: {error!s:.120}); copy it from its source."
        return _rejected(values, reason, picture, traceback.format_exc())
    remarks = " ".join(doubt for doubt in doubts if doubt)
    return Findings(values | {"status": "flagged" if remarks else "ok", "reason": remarks, "remarks": remarks}, picture)


def sentence(fault: DataFault, root: Path) -> str:
    """Return a fault as the reason in a table, with its remedy, and with paths relative to the data set."""
    remedy = f" To fix: {fault.to_fix}." if fault.to_fix else ""
    return (fault.what + remedy).replace(f"{root}/", "")


def _rejected(values: dict[str, Any], reason: str, picture: np.ndarray | None, fault: str = "") -> Findings:
    return Findings(values | {"status": "rejected", "reason": reason}, picture, fault)


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


def _described(values: dict[str, Any], scan: Scan, overview: Overview) -> list[str]:
    """Fill in size, quality and digest of the scan, and return what a person should check."""
    quality = measure_quality(scan, overview)
    values |= {
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


def _labelled(values: dict[str, Any], section: Section, scan: Scan, announce: Announce) -> list[str]:
    """Fill in mask and annotation, and return what a person should check."""
    if section.mask is None and section.annotation is None:
        return []
    doubts = []
    overview = Overview.of(scan, FIT_PX)
    plane = overview.width_mm, overview.height_mm
    if section.mask is not None:
        announce(f"{section.mask}: decoding it")
        mask = open_mask(section, *plane)
        doubts += [_misfit(mask, scan, overview), mask_doubt(mask)]
        values["mask_digest"] = mask_digest(section)
    if section.annotation is not None:
        announce(f"{section.annotation}: decoding it")
        annotation = open_annotation(section, *plane, scan.pixel_um)
        require_areas(annotation)
        doubts.append(_misfit(annotation, scan, overview))
        values["annotation_digest"] = annotation_digest(annotation)
        if annotation.unknown:
            doubts.append(
                f"{annotation.path.name} has areas that desc-areas_dseg.tsv does not list: "
                f"{', '.join(annotation.unknown[:8])}; they count as not annotated, add them to the table."
            )
    return doubts


def _labelled_in_spite_of(
    doubt: str, values: dict[str, Any], section: Section, scan: Scan, announce: Announce
) -> list[str]:
    """Fill in mask and annotation; if they seem wrong, name first what makes the tissue itself doubtful."""
    try:
        return _labelled(values, section, scan, announce)
    except DataFault as fault:
        if not doubt:
            raise
        raise ScanError(f"{doubt} {fault.what}", to_fix=fault.to_fix) from fault


def _misfit(labels: PlaneLabels, scan: Scan, overview: Overview) -> str:
    fit = require_fit(labels, scan, overview)
    return f"{labels.path.name}: {fit}; look whether it is this section's." if fit.doubtful else ""
