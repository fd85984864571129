"""The inventory of a brain: every section with its quality, or with the reason why it takes no part."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from cytonet_pipeline.dataset import SIZE_TOLERANCE, Brain, Section
from cytonet_pipeline.dataset.transforms import follow_warp
from cytonet_pipeline.errors import DataFault
from cytonet_pipeline.histology.annotations import read_annotation, read_mask
from cytonet_pipeline.histology.digest import digest_of_header
from cytonet_pipeline.histology.fit import fit_of
from cytonet_pipeline.histology.labels import LabelImage
from cytonet_pipeline.histology.quality import measure_quality
from cytonet_pipeline.histology.scan import Scan, open_scan
from cytonet_pipeline.progress import track
from cytonet_pipeline.settings import DatasetBlock
from cytonet_pipeline.store import digest_array, digest_file, digest_of, table

# Reading waits for the network more than for the processor.
_THREADS = 4


def survey(brain: Brain, block: DatasetBlock) -> pd.DataFrame:
    """Open every section of a brain and say whether it can take part.

    Returns
    -------
    DataFrame
        Table `section_scans`, one row a section in the brain's order. Sections that cannot be opened have 0 where a
        number is required, and their reason; a bad section never raises.
    """
    contract = table("section_scans")
    rows = list(track(_rows(brain, block), f"sections of {brain.name}", total=len(brain.sections)))
    if not rows:
        return contract.empty()
    return contract.validate(pd.DataFrame(rows, columns=[column.name for column in contract.columns]))


def _rows(brain: Brain, block: DatasetBlock) -> Iterator[dict[str, Any]]:
    with ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(lambda section: _row(section, brain, block), brain.sections)


def _row(section: Section, brain: Brain, block: DatasetBlock) -> dict[str, Any]:
    row = _unopened(section, brain, block)
    if section.status != "ok" or section.scan is None:
        return row
    try:
        with open_scan(section.scan, section.pixel_um, block.window_of(section.brain)) as scan:
            scan.verify()
            doubts = [section.reason, *_described(row, scan), *_labelled(row, section, scan, brain)]
    except DataFault as fault:
        return row | {"status": "rejected", "reason": _sentence(fault, brain)}
    except OSError as error:
        return row | {"status": "rejected", "reason": f"cannot be read ({error.strerror or error}); look at the disk."}
    reason = " ".join(doubt for doubt in doubts if doubt)
    return row | {"status": "flagged" if reason else "ok", "reason": reason}


def _unopened(section: Section, brain: Brain, block: DatasetBlock) -> dict[str, Any]:
    """The row of a section as far as it is known without opening anything."""
    numbers = dict.fromkeys(("width_px", "height_px", "levels", "bits"), 0)
    unknown = dict.fromkeys(
        ("digest", "compression", "tissue_fraction", "focus", "background", "mask_digest", "annotation_digest")
    )
    return {
        "brain": section.brain,
        "sample": section.sample,
        "section": section.section,
        "path": section.path,
        "bytes": _bytes(section.scan),
        "pixel_um": section.pixel_um,
        "mask_path": _written(section.mask, brain),
        "annotation_path": _written(section.annotation, brain),
        "transform_digest": placement_digest(section, brain, block),
        "status": section.status,
        "reason": section.reason,
        **numbers,
        **unknown,
    }


def _described(row: dict[str, Any], scan: Scan) -> list[str]:
    """Fill in what the scan says of itself; what somebody should look at."""
    quality = measure_quality(scan)
    row |= {
        "digest": digest_of_header(scan.header),
        "bytes": scan.bytes,
        "width_px": scan.width_px,
        "height_px": scan.height_px,
        "pixel_um": scan.pixel_um,
        "levels": len(scan.levels),
        "bits": scan.bits,
        "compression": scan.compression,
        "tissue_fraction": quality.tissue_fraction,
        "focus": quality.focus,
        "background": quality.background,
    }
    doubts = []
    said = scan.size_said_um
    if said is not None and abs(said - scan.pixel_um) > SIZE_TOLERANCE * scan.pixel_um:
        doubts.append(
            f"{scan.path.name} says {said:g} µm a pixel, sidecar or table {scan.pixel_um:g}; "
            "the latter is used, correct the wrong one."
        )
    if quality.tissue_fraction == 0:
        doubts.append(f"{scan.path.name} shows no tissue; look at it, and withdraw it if it is empty.")
    return doubts


def _labelled(row: dict[str, Any], section: Section, scan: Scan, brain: Brain) -> list[str]:
    """Fill in mask and annotation; what somebody should look at."""
    doubts = []
    images: list[LabelImage] = []
    if section.mask is not None:
        images.append(read_mask(section, scan))
        row["mask_digest"] = digest_file(section.mask)
    if section.annotation is not None:
        images.append(read_annotation(section, scan))
        row["annotation_digest"] = digest_file(section.annotation)
    for image in images:
        fit = fit_of(image, scan)
        if fit.doubtful:
            doubts.append(f"{image.path.name}: {fit}; look whether it is this section's.")
    return doubts


def placement_digest(section: Section, brain: Brain, block: DatasetBlock) -> str | None:
    """Digest of what places a section in its brain: matrix, warp with all its files, origin; None without a matrix."""
    if section.matrix is None:
        return None
    warp = follow_warp(section.warp, (brain.root, *block.allowed_roots)).sources if section.warp else []
    # The third column is ignored when points are mapped, so it says nothing here either.
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
