"""Pixels as the tags of a TIFF's page describe them: their size and their samples."""

import math
from typing import Any, Literal

from tifffile import TiffPage

from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.formats.reader import Samples

# ResolutionUnit: 2 inch, 3 centimetre; 1 (NONE) means that only the aspect ratio counts.
_UM_PER_UNIT = {2: 25400.0, 3: 10000.0}
_INCH = 2
_PLACEHOLDERS_PER_INCH = frozenset({72, 96, 100, 150, 200, 300})
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _YCBCR = 0, 1, 2, 6
_JPEG = 7
_UNSIGNED = 1
_ASSOCIATED, _UNASSOCIATED = 1, 2
_PLAIN_KINDS = (0, 1, 3)


def pixel_size_conflict(
    described: tuple[float, float] | None, tags: tuple[float, float] | None, tolerance: float
) -> str:
    """Describe metadata and resolution tags that differ by more than `tolerance` (a share); empty if they agree."""
    if described is None or tags is None:
        return ""
    if all(abs(a - b) <= tolerance * a for a, b in zip(described, tags, strict=True)):
        return ""
    return f"its metadata give {described[0]:g} µm a pixel, its resolution tags {tags[0]:g}"


def placeholder(page: TiffPage) -> str:
    """Describe resolution tags that programs write which know no resolution; empty if they are none of these."""
    ratio, unit = page.tags.valueof(282), page.tags.valueof(296, _INCH)
    edge = _edge(ratio, 1.0)
    per_inch = round(1 / edge) if unit == _INCH and math.isfinite(edge) and edge > 0 else 0
    if per_inch not in _PLACEHOLDERS_PER_INCH or abs(per_inch * edge - 1) > 1e-3:
        return ""
    return (
        f"its pixel size of {25400 / per_inch:.4g} µm comes from resolution tags of {per_inch} dpi alone, which "
        "programs also write that know no size; confirm it by PixelSize in the sidecar"
    )


def resolution(page: TiffPage) -> tuple[float, float] | None:
    """Return width and height of a pixel (µm) by the resolution tags; None if they give none."""
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
    colour = _is_colour(page, name)
    return Samples(colour, _bits(page, name), page.photometric == _MIN_IS_WHITE, _alpha(page, colour, name))


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


def _alpha(page: TiffPage, colour: bool, name: str) -> Literal["", "associated", "unassociated"]:
    """Return how the sample after the colours tells opacity; empty if there is none.

    Raises
    ------
    ScanError
        There are more samples, or the file does not say what they are.
    """
    extra = page.samplesperpixel - (3 if colour else 1)
    kinds = tuple(page.extrasamples or ())
    if extra == 0:
        return ""
    if extra == 1 and kinds in ((_ASSOCIATED,), (_UNASSOCIATED,)):
        return "associated" if kinds == (_ASSOCIATED,) else "unassociated"
    raise ScanError(
        f"{name}: has {extra} more samples a pixel than {'colours' if colour else 'grey values'}, and ExtraSamples "
        f"does not say that they are transparency ({', '.join(str(int(kind)) for kind in kinds) or 'not given'}).",
        to_fix="export the scan as grey values or RGB, without transparency",
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
