"""OME-XML in the description of a TIFF: its images, which planes and channels they have, and where these lie."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

_UM_PER_LENGTH = {
    "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "mm": 1e3, "nm": 1e-3, "cm": 1e4, "m": 1e6, "dm": 1e5, "pm": 1e-6,
    "\u00c5": 1e-4, "\u212b": 1e-4, "in": 25400.0, "thou": 25.4,
}  # fmt: skip
_MOST_IMAGES = 256
_MOST_PLANES = 1 << 16
_RGBA_DIGITS = 8


@dataclass(frozen=True)
class OmeImage:
    """An image (a series) of OME metadata.

    Attributes
    ----------
    planes : tuple of int
        Sizes along Z, T and of planes along C; a plane of RGB counts once.
    pages : tuple of int
        Numbers of the pages with its first planes, in their order; none if they lie in another file.
    names, shades : tuple of str
        Of its channels, as the metadata give them.
    pixel_um : (float, float) or None
        Width and height of a pixel.
    size_remark : str
        A size that is not understood.
    """

    number: int
    title: str
    width: int
    height: int
    planes: tuple[int, int, int]
    pages: tuple[int, ...]
    names: tuple[str, ...]
    shades: tuple[str, ...]
    pixel_um: tuple[float, float] | None
    size_remark: str


def read_ome(text: str) -> list[OmeImage]:
    """Read the images of OME-XML; none if it is no OME-XML. Entities are refused: they can grow without end."""
    if "<OME" not in text or "<!" in text.replace("<!--", ""):
        return []
    try:
        root = ElementTree.fromstring(text.strip().encode())
        images = [element for element in root.iter() if _tag(element) == "Image"][:_MOST_IMAGES]
        parsed = [_image(number, image, root.get("UUID")) for number, image in enumerate(images)]
    except (ElementTree.ParseError, ValueError, LookupError, OverflowError):
        return []
    return [image for image in parsed if image is not None]


def _image(number: int, image: ElementTree.Element, file: str | None) -> OmeImage | None:
    pixels = next(_children(image, "Pixels"), None)
    if pixels is None:
        return None
    channels = list(_children(pixels, "Channel"))
    samples = int(channels[0].get("SamplesPerPixel", "1")) if channels else 1
    depth, times, all_channels = (int(pixels.get(f"Size{axis}", "1")) for axis in "ZTC")
    planes = (depth, times, max(1, all_channels // max(1, samples)))
    pixel_um, remark = _size(pixels)
    return OmeImage(
        number,
        image.get("Name", ""),
        int(pixels.get("SizeX", "0")),
        int(pixels.get("SizeY", "0")),
        planes,
        _pages(pixels, math.prod(planes), file),
        tuple(channel.get("Name", "") for channel in channels),
        tuple(_shade(channel.get("Color")) for channel in channels if channel.get("Color")),
        pixel_um,
        remark,
    )


def _pages(pixels: ElementTree.Element, count: int, file: str | None) -> tuple[int, ...]:
    """Return the pages of the first planes, by `TiffData`; of those in other files none."""
    entries = list(_children(pixels, "TiffData"))
    if not entries:
        return tuple(range(min(count, _MOST_PLANES)))
    order = pixels.get("DimensionOrder", "XYCZT")[2:]
    sizes = {axis: int(pixels.get(f"Size{axis}", "1")) for axis in order}
    if sizes.get("C", 1) > 1:
        sizes["C"] = max(1, count // max(1, sizes.get("Z", 1) * sizes.get("T", 1)))
    pages: dict[int, int] = {}
    for entry in entries:
        named = next(_children(entry, "UUID"), None)
        if named is not None and file is not None and (named.text or "").strip() != file:
            continue
        first, step = 0, 1
        for axis in order:
            first += step * int(entry.get(f"First{axis}", "0"))
            step *= sizes[axis]
        run = int(entry.get("PlaneCount", "1" if entry.get("IFD") else str(count)))
        for plane in range(max(0, min(run, count - first, _MOST_PLANES))):
            pages.setdefault(first + plane, int(entry.get("IFD", "0")) + plane)
    return tuple(pages[plane] for plane in sorted(pages)) if 0 in pages else ()


def _size(pixels: ElementTree.Element) -> tuple[tuple[float, float] | None, str]:
    given = [(pixels.get(f"PhysicalSize{a}"), pixels.get(f"PhysicalSize{a}Unit", "µm")) for a in "XY"]
    width, height = (_length(text, unit) for text, unit in given)
    if all(math.isfinite(size) and size > 0 for size in (width, height)):
        return (width, height), ""
    stated = [f"{text} {unit}"[:40] for text, unit in given if text is not None]
    return (
        None,
        f"its OME metadata give a pixel size of {' × '.join(stated)}, which is not understood" if stated else "",
    )


def _length(text: str | None, unit: str) -> float:
    try:
        return float(text or "nan") * _UM_PER_LENGTH[unit.strip()]
    except (ValueError, KeyError):
        return math.nan


def _shade(color: str | None) -> str:
    """Return six hexadecimal digits of a colour, a signed RGBA number of 32 bit."""
    try:
        return f"{int(color or '') & 0xFFFFFFFF:0{_RGBA_DIGITS}X}"[:6]
    except ValueError:
        return ""


def _children(element: ElementTree.Element, tag: str) -> Iterator[ElementTree.Element]:
    return (child for child in element if _tag(child) == tag)


def _tag(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]
