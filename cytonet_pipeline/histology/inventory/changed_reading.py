"""Sections whose files are read otherwise than by the release that made a stored inventory.

Most files are read as ever, and results that were made of them stay valid. Of the others the reader says so from the
header alone (`Reader.reading`); a file that is refused now, and a pixel size that is no longer believed, count too.
"""

from functools import lru_cache
from pathlib import Path

from cytonet_pipeline.dataset import UNPICKED, Brain, Pick, Section
from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.formats.files import FileState
from cytonet_pipeline.histology.formats.reader import Reader
from cytonet_pipeline.histology.formats.registry import open_reader
from cytonet_pipeline.settings import DatasetBlock

_CONTOURS = (".geojson", ".json")
_REMEMBERED = 256


def read_otherwise(section: Section, block: DatasetBlock) -> list[str]:
    """Describe what of a section's images is read otherwise; empty if nothing is."""
    if section.status != "ok" or section.scan is None:
        return []
    changes: list[str] = []
    for path, pick in ((section.scan, section.pick), (section.mask, UNPICKED), (section.annotation, UNPICKED)):
        if path is not None and not path.name.lower().endswith(_CONTOURS):
            changes += _reading(path, pick)
    return changes + _size(section, block)


def sections_read_otherwise(brain: Brain, block: DatasetBlock) -> list[str]:
    """List the samples of a brain of which something is read otherwise."""
    return [section.sample for section in brain.sections if read_otherwise(section, block)]


def require_plausible(pixel_um: float, path: Path, block: DatasetBlock) -> None:
    """Check that a pixel size can be that of a section scan.

    Raises
    ------
    ScanError
        It cannot: resolution tags are often placeholders, such as 72 dpi.
    """
    low, high = block.plausible_pixel_um
    if low <= pixel_um <= high:
        return
    raise ScanError(
        f"{path}: its pixels would be {pixel_um:.4g} µm wide, which is no scan of a section ({low:g} to {high:g} µm "
        "are plausible).",
        to_fix="write PixelSize and PixelSizeUnits into the sidecar, or pixel_size_um into the section table; if the "
        "size is right, widen plausible_pixel_um in the experiments file",
    )


def _reading(path: Path, pick: Pick) -> list[str]:
    reader = _opened(path, pick)
    return ["refused"] if reader is None else list(reader.reading)


def _size(section: Section, block: DatasetBlock) -> list[str]:
    reader = None if section.scan is None else _opened(section.scan, section.pick)
    pixel_um = section.pixel_um
    if pixel_um is None and reader is not None and reader.file_pixel_um is not None:
        pixel_um = reader.file_pixel_um[0]
    if pixel_um is None or section.scan is None:
        return []
    try:
        require_plausible(pixel_um, section.scan, block)
    except ScanError:
        return ["pixel size"]
    return []


def _opened(path: Path, pick: Pick) -> Reader | None:
    """Return the reader of an image; None if it is refused or cannot be read."""
    try:
        return _of_state(FileState.of(path), pick)
    except OSError:
        return None


@lru_cache(_REMEMBERED)
def _of_state(state: FileState, pick: Pick) -> Reader | None:
    try:
        reader = open_reader(state.path, pick)
        reader.samples()
    except ScanError:
        return None
    return reader
