"""What a TIFF says about the size of its pixels: OME metadata, else the resolution tags."""

import math
from typing import Any
from xml.etree import ElementTree

from tifffile import TiffPage

_UM_PER_LENGTH = {"µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "mm": 1e3, "nm": 1e-3, "cm": 1e4, "m": 1e6}
# ResolutionUnit: 2 inch, 3 centimetre; 1 (NONE) means that only the ratio of the two is meant.
_UM_PER_UNIT = {2: 25400.0, 3: 10000.0}
_INCH = 2


def said_pixel_um(page: TiffPage) -> tuple[float, float] | None:
    """Width and height of a pixel in µm, as the first page of a TIFF says; None if it does not."""
    return _ome(page.description) or _resolution(page)


def contradiction(page: TiffPage, tolerance: float) -> str:
    """What is to be said where OME metadata and resolution tags of a page differ by more than `tolerance` (a share)."""
    ome, tags = _ome(page.description), _resolution(page)
    if ome is None or tags is None or all(abs(a - b) <= tolerance * a for a, b in zip(ome, tags, strict=True)):
        return ""
    return f"its OME metadata give {ome[0]:g} µm a pixel, its resolution tags {tags[0]:g}"


def _ome(text: str) -> tuple[float, float] | None:
    """`PhysicalSizeX` and `Y` of the first image in OME-XML. Entities are not expanded: they can grow without end."""
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
    """Edge of a pixel from pixels per unit, a fraction."""
    try:
        return float(unit_um * ratio[1] / ratio[0])
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        return math.nan


def _both(width: float, height: float) -> tuple[float, float] | None:
    sound = all(math.isfinite(size) and size > 0 for size in (width, height))
    return (width, height) if sound else None
