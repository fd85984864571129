"""Decoding a tile straight into an array, for the ways in which large grey scans are stored.

`tifffile` decodes everything, by way of a new array a tile. Here are only the ways where that costs time: one sample of
8 bit, no predictor. Data that these refuse are left to `tifffile`, which knows more about odd files.
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
    """A function that decodes a whole tile of a page into as many bytes as it has pixels; None if there is none."""
    plain = page.samplesperpixel == 1 and page.bitspersample == 8 and page.sampleformat == _UNSIGNED
    if not plain or not page.is_tiled or page.fillorder != 1:
        return None
    if page.compression == _JPEG:
        return _jpeg(page)
    if page.predictor != 1:
        return None
    if page.compression == _NONE:
        return _copied
    if page.compression in _ZSTD:
        return _filled(imagecodecs.zstd_decode)
    if page.compression in (_DEFLATE, _OLD_DEFLATE):
        return _filled(imagecodecs.deflate_decode)
    return _filled(imagecodecs.lzw_decode) if page.compression == _LZW else None


def _copied(stored: memoryview | bytes, place: np.ndarray) -> None:
    place[:] = np.frombuffer(stored, np.uint8, count=place.size)


def _filled(decode: Callable[..., Any]) -> Into:
    def into(stored: memoryview | bytes, place: np.ndarray) -> None:
        if len(decode(stored, out=place)) != place.size:
            raise ValueError("fewer pixels than a tile has")

    return into


def _jpeg(page: TiffPage) -> Into:
    # Its hints know of bytes only; it takes any memory.
    decode: Callable[..., Any] = imagecodecs.jpeg8_decode
    tables, shape = page.jpegtables, (page.tilelength, page.tilewidth)
    colours, wanted = jpeg_decode_colorspace(page.photometric, page.planarconfig, page.extrasamples, page.is_jfif)

    def into(stored: memoryview | bytes, place: np.ndarray) -> None:
        out = place.reshape(shape)
        decode(stored, tables=tables, colorspace=colours, outcolorspace=wanted, out=out)

    return into
