"""Decoding a tile straight into an array, for the compressions in which large grey scans are stored.

`tifffile` decodes everything, but into a new array per tile. Here are only the cases in which that costs time: one
sample of 8 bit, no predictor. Data that these refuse are left to `tifffile`, which knows more about odd files.
"""

from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
from tifffile import TiffPage
from tifffile.tifffile import jpeg_decode_colorspace

Into = Callable[[memoryview | bytes, np.ndarray], None]

_NONE, _LZW, _JPEG, _DEFLATE, _OLD_DEFLATE = 1, 5, 7, 8, 32946
_ZSTD = frozenset({34926, 50000})
_UNSIGNED = 1


def decoder_into(page: TiffPage) -> Into | None:
    """Return a function that decodes a whole tile of a page into one byte per pixel; None if there is none."""
    plain = page.samplesperpixel == 1 and page.bitspersample == 8 and page.sampleformat == _UNSIGNED
    if not plain or not page.is_tiled or page.fillorder != 1:
        return None
    if page.compression == _JPEG:
        return _jpeg(page)
    if page.predictor != 1:
        return None
    if page.compression == _NONE:
        return _copy
    if page.compression in _ZSTD:
        return _filling(imagecodecs.zstd_decode)
    if page.compression in (_DEFLATE, _OLD_DEFLATE):
        return _filling(imagecodecs.deflate_decode)
    return _filling(imagecodecs.lzw_decode) if page.compression == _LZW else None


def _copy(stored: memoryview | bytes, place: np.ndarray) -> None:
    place[:] = np.frombuffer(stored, np.uint8, count=place.size)


def _filling(decode: Callable[..., Any]) -> Into:
    def into(stored: memoryview | bytes, place: np.ndarray) -> None:
        if len(decode(stored, out=place)) != place.size:
            raise ValueError("fewer pixels than a tile has")

    return into


def _jpeg(page: TiffPage) -> Into:
    # Its type hints know bytes only; it takes any memory.
    decode: Callable[..., Any] = imagecodecs.jpeg8_decode
    tables, shape = page.jpegtables, (page.tilelength, page.tilewidth)
    colours, out_colours = jpeg_decode_colorspace(page.photometric, page.planarconfig, page.extrasamples, page.is_jfif)

    def into(stored: memoryview | bytes, place: np.ndarray) -> None:
        out = place.reshape(shape)
        decode(stored, tables=tables, colorspace=colours, outcolorspace=out_colours, out=out)

    return into
