"""Reading the mask and the annotation of a section, and refusing those of another one."""

from pathlib import Path

from cytonet_pipeline.dataset import Section
from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.annotations import contours
from cytonet_pipeline.histology.annotations.contours import Contours
from cytonet_pipeline.histology.annotations.fit import require_fit
from cytonet_pipeline.histology.annotations.labels import LabelImage
from cytonet_pipeline.histology.scan import Scan
from cytonet_pipeline.store import digest_file, digest_of

_MOST_LISTED = 6


def read_mask(section: Section, scan: Scan) -> LabelImage:
    """Read the cortex mask of a section: not 0 in the cortex.

    Raises
    ------
    ScanError
        There is none, it cannot be read, is empty, or belongs to another section by its proportions or its place.
    """
    mask = open_mask(section, *_plane_mm(scan))
    require_fit(mask, scan)
    return mask


def read_annotation(section: Section, scan: Scan) -> LabelImage | Contours:
    """Read the annotated areas of a section: index in `desc-areas_dseg.tsv`, 0 where nothing is annotated.

    Raises
    ------
    ScanError
        There is none, it cannot be read, has no area, or belongs to another section by its proportions or its place.
    """
    annotation = open_annotation(section, *_plane_mm(scan), scan.pixel_um)
    require_areas(annotation)
    require_fit(annotation, scan)
    return annotation


def open_mask(section: Section, width_mm: float, height_mm: float) -> LabelImage:
    """Read the cortex mask of a section without checking that it lies on the tissue.

    Returns
    -------
    LabelImage
        Not 0 in the cortex: only the section's `mask_value` if it has one.

    Raises
    ------
    ScanError
        There is none, it cannot be read, is empty, does not show what is cortex, or has other proportions.
    """
    mask = LabelImage.open(_path(section.mask, "mask", section), width_mm, height_mm, is_mask=True)
    if not mask.numbers:
        raise ScanError(f"{mask.path}: the mask is empty.", to_fix="draw it, or leave it out to have it derived")
    value = section.mask_value
    if value is not None and value not in mask.numbers:
        raise ScanError(
            f"{mask.path}: no pixel has the mask_value {value}; it holds {_listed(mask)}.",
            to_fix="correct mask_value in the section table or in the experiments file",
        )
    if value is not None:
        return mask.where(value)
    if mask.labels.all():
        raise ScanError(
            f"{mask.path}: no pixel is 0, so all of the scan would be cortex; it holds {_listed(mask)}.",
            to_fix="give the number that is cortex as mask_value, in the section table or in the experiments file",
        )
    return mask


def mask_digest(section: Section) -> str | None:
    """Return the digest of a mask: of its bytes, and of the number that is cortex if one is given; None without."""
    if section.mask is None:
        return None
    written = digest_file(section.mask)
    return written if section.mask_value is None else digest_of([written, section.mask_value])


def require_areas(annotation: LabelImage | Contours) -> None:
    """Refuse an annotation without a single area.

    Raises
    ------
    ScanError
        It has none.
    """
    areas = annotation.areas if isinstance(annotation, Contours) else annotation.numbers
    if not areas and not annotation.unknown:
        raise ScanError(
            f"{annotation.path}: the annotation has no area.",
            to_fix="draw the areas or export them again; without annotation, delete the file",
        )


def mask_doubt(mask: LabelImage) -> str:
    """Describe a mask of several numbers, all of which count as cortex; empty if there is one."""
    if len(mask.numbers) <= 1:
        return ""
    return (
        f"{mask.path.name} holds the numbers {_listed(mask)}, and all of them count as cortex; "
        "if only one is, give it as mask_value."
    )


def _listed(mask: LabelImage) -> str:
    shown = ", ".join(str(number) for number in mask.numbers[:_MOST_LISTED])
    return shown + (" …" if len(mask.numbers) > _MOST_LISTED else "")


def open_annotation(section: Section, width_mm: float, height_mm: float, pixel_um: float) -> LabelImage | Contours:
    """Read the annotated areas of a section without checking that they lie on the tissue.

    Areas that `desc-areas_dseg.tsv` lacks read as 0; the survey names them.

    Parameters
    ----------
    width_mm, height_mm, pixel_um : float
        Field of view and pixel size of the scan.

    Raises
    ------
    ScanError
        There is none, it cannot be read, or has other proportions.
    """
    path = _path(section.annotation, "annotation", section)
    if path.name.lower().endswith(contours.EXTENSIONS):
        return Contours.open(path, width_mm, height_mm, pixel_um, section.areas)
    image = LabelImage.open(path, width_mm, height_mm)
    return image if section.areas is None else image.only(section.areas.numbers)


def annotation_digest(annotation: LabelImage | Contours) -> str:
    """Return the digest of an annotation: of its bytes, and of what `desc-areas_dseg.tsv` makes of them.

    With another table the same file may name other areas. Areas that it does not name have no influence.
    """
    from_table = [*(annotation.areas if isinstance(annotation, Contours) else ()), *annotation.unknown]
    written = digest_file(annotation.path)
    return digest_of([written, from_table]) if from_table else written


def _path(path: Path | None, what: str, section: Section) -> Path:
    if path is None:
        raise ScanError(f"sub-{section.brain}, sample {section.sample}: has no {what}.")
    return path


def _plane_mm(scan: Scan) -> tuple[float, float]:
    mm = scan.pixel_um / 1000
    return scan.width_px * mm, scan.height_px * mm
