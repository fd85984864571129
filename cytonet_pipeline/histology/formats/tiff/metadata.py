"""Pixels as a page of a TIFF describes them: their size, by OME metadata or resolution tags, and their samples."""

import math
from typing import Any
from xml.etree import ElementTree

from tifffile import TiffPage

from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.formats.reader import Samples

_UM_PER_LENGTH = {"µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "mm": 1e3, "nm": 1e-3, "cm": 1e4, "m": 1e6}
# ResolutionUnit: 2 inch, 3 centimetre; 1 (NONE) means that only the aspect ratio counts.
_UM_PER_UNIT = {2: 25400.0, 3: 10000.0}
_INCH = 2
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _YCBCR = 0, 1, 2, 6
_JPEG = 7
_UNSIGNED = 1
_PLAIN_KINDS = (0, 1, 3)


def page_pixel_um(page: TiffPage) -> tuple[float, float] | None:
    """Return width and height of a pixel (µm) as the first page of a TIFF gives them; None if it gives none."""
    return _ome(page.description) or _resolution(page)


def pixel_size_conflict(page: TiffPage, tolerance: float) -> str:
    """Describe OME metadata and resolution tags that differ by more than `tolerance` (a share); empty if they agree."""
    ome, tags = _ome(page.description), _resolution(page)
    if ome is None or tags is None or all(abs(a - b) <= tolerance * a for a, b in zip(ome, tags, strict=True)):
        return ""
    return f"its OME metadata give {ome[0]:g} µm a pixel, its resolution tags {tags[0]:g}"


def _ome(text: str) -> tuple[float, float] | None:
    """Read `PhysicalSizeX` and `Y` of the first image in OME-XML. Entities are refused: they can grow without end."""
    if "<OME" not in text or "<!" in text.replace("<!--", ""):
        return None
    try:
        root = ElementTree.fromstring(text.strip().encode())
    except (ElementTree.ParseError, ValueError, LookupError):
        return None
    pixels = next((element for element in root.iter() if element.tag.rpartition("}")[2] == "Pixels"), None)
    if pixels is None:
        return None
    return _both(*(_length(pixels.get(f"PhysicalSize{a}"), pixels.get(f"PhysicalSize{a}Unit", "µm")) for a in "XY"))


def _length(text: str | None, unit: str) -> float:
    try:
        return float(text or "nan") * _UM_PER_LENGTH[unit]
    except (ValueError, KeyError):
        return math.nan


def _resolution(page: TiffPage) -> tuple[float, float] | None:
    unit = _UM_PER_UNIT.get(page.tags.valueof(296, _INCH))
    if unit is None:
        return None
    return _both(*(_edge(page.tags.valueof(code), unit) for code in (282, 283)))


def _edge(ratio: Any, unit_um: float) -> float:
    """Compute the edge of a pixel from pixels per unit, a fraction."""
    try:
        return float(unit_um * ratio[1] / ratio[0])
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        return math.nan


def _both(width: float, height: float) -> tuple[float, float] | None:
    sound = all(math.isfinite(size) and size > 0 for size in (width, height))
    return (width, height) if sound else None


def samples_of_page(page: TiffPage, name: str) -> Samples:
    """Describe what a page of a TIFF stores per pixel.

    Raises
    ------
    ScanError
        It is neither grey values nor RGB of 8 to 16 bit.
    """
    return Samples(_is_colour(page, name), _bits(page, name), page.photometric == _MIN_IS_WHITE)


def _is_colour(page: TiffPage, name: str) -> bool:
    photometric, samples = page.photometric, page.samplesperpixel
    if photometric in (_MIN_IS_WHITE, _MIN_IS_BLACK) and samples - len(page.extrasamples or ()) <= 1:
        return False
    # The JPEG decoder turns YCbCr into RGB; nothing else does.
    if samples >= 3 and (photometric == _RGB or (photometric == _YCBCR and page.compression == _JPEG)):
        return True
    raise ScanError(
        f"{name}: {samples} samples a pixel of kind {getattr(photometric, 'name', photometric)} are not read.",
        to_fix="export the scan as grey values or RGB",
    )


def _bits(page: TiffPage, name: str) -> int:
    bits = page.bitspersample
    if page.sampleformat != _UNSIGNED or not isinstance(bits, int) or not 8 <= bits <= 16:
        raise ScanError(
            f"{name}: samples of {bits} bit ({getattr(page.sampleformat, 'name', page.sampleformat)}) are not read.",
            to_fix="export the scan with unsigned samples of 8 to 16 bit",
        )
    return bits


def require_labels(page: TiffPage, name: str) -> None:
    """Check that a page stores one whole number per pixel, without loss.

    Raises
    ------
    ScanError
        It does not.
    """
    kind = page.dtype.kind if page.dtype is not None else ""
    if page.samplesperpixel != 1 or page.photometric not in _PLAIN_KINDS or kind not in ("u", "i", "b"):
        raise ScanError(
            f"{name}: holds colours or fractions, not one whole number a pixel.",
            to_fix="export it with the labels' numbers as unsigned 8, 16 or 32 bit",
        )
    if page.compression == _JPEG:
        raise ScanError(
            f"{name}: JPEG changes the numbers of labels.", to_fix="export it with Deflate, LZW, Zstd or none"
        )
