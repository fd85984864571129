"""The mask and the annotation of a section: read, and refused where they are another section's."""

from pathlib import Path

from cytonet_pipeline.dataset import Section
from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.fit import require_fit
from cytonet_pipeline.histology.labels import LabelImage
from cytonet_pipeline.histology.scan import Scan


def read_mask(section: Section, scan: Scan) -> LabelImage:
    """The cortex mask of a section: not 0 in the cortex.

    Raises
    ------
    ScanError
        There is none, it cannot be read, is empty, or is another section's by its proportions or by where it lies.
    """
    mask = _read(section.mask, "mask", section, scan)
    if not mask.labels.any():
        raise ScanError(f"{mask.path}: the mask is empty.", to_fix="draw it, or leave it out to have it derived")
    require_fit(mask, scan)
    return mask


def read_annotation(section: Section, scan: Scan) -> LabelImage:
    """The annotated areas of a section: index in `desc-areas_dseg.tsv`, 0 where nothing is annotated.

    Raises
    ------
    ScanError
        There is none, it cannot be read, or is another section's by its proportions or by where it lies.
    """
    annotation = _read(section.annotation, "annotation", section, scan)
    require_fit(annotation, scan)
    return annotation


def _read(path: Path | None, what: str, section: Section, scan: Scan) -> LabelImage:
    if path is None:
        raise ScanError(f"sub-{section.brain}, sample {section.sample}: has no {what}.")
    mm = scan.pixel_um / 1000
    return LabelImage.open(path, scan.width_px * mm, scan.height_px * mm)
