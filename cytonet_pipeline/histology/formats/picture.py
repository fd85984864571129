"""PNG and JPEG: small scans, masks and annotations in one piece, decoded by Pillow.

The size that a file announces is checked before anything is decoded. The resolution in such files is a setting for
printers, so the pixel size always comes from elsewhere.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from cytonet_pipeline.dataset import UNPICKED, Pick
from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.formats.choice import unknown_pick
from cytonet_pipeline.histology.formats.files import FileState, read_bytes
from cytonet_pipeline.histology.formats.levels import Level, Stored
from cytonet_pipeline.histology.formats.reader import Reader, Samples
from cytonet_pipeline.store import digest_bytes, digest_of

# 8192 × 8192 px: with four samples 256 MiB.
LARGEST_PX = 1 << 26
_MOST_BYTES = 1 << 29
_HEADER_BYTES = 4 << 20
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16"}
_GREY_MODES = {"1", "L", "LA", "I;16"}
# Depth and colour type in the header of a PNG. Pillow stretches grey values of 2 and 4 bits to 8.
_DEPTH_AT, _COLOUR_AT = 24, 25
_STRETCHED_BY = {2: 85, 4: 17}
_ORIENTATION = 0x0112
_OPAQUE = 255
# JPEG blurs the borders of a mask of 0 and 255: what lies between is rounded, if it is this little.
_DARK_BELOW, _LIGHT_FROM, _HALF, _BETWEEN = 64, 192, 128, 0.05

Use = Literal["scan", "labels", "mask"]


@dataclass(frozen=True, eq=False)
class PictureLevel(Level):
    """The only level of a picture: one chunk, the whole file."""

    state: FileState
    depth: int
    use: Use

    def fetch(self, row: int, columns: Sequence[int]) -> Iterator[list[tuple[int, Stored | None]]]:
        """Read the file."""
        yield [(column, (read_bytes(self.state, 0, self.state.size),)) for column in columns]

    def beyond(self) -> int:
        """Return 0: a file that ends too early fails when it is decoded."""
        return 0

    def present(self) -> np.ndarray:
        """Return that the only chunk is there."""
        return np.ones((1, 1), bool)

    def decode(self, row: int, column: int, stored: Stored) -> np.ndarray:
        """Decode the picture: (height, width, samples).

        Raises
        ------
        ScanError
            It is damaged or, for labels, has colours or other things that are no numbers.
        """
        try:
            return self._decoded(row, column, stored)
        except ScanError:
            raise
        except Exception as error:  # Pillow may raise anything
            raise ScanError(
                f"{self.path}: cannot be decoded ({type(error).__name__}: {error!s:.120}).",
                to_fix="copy it again from its source",
            ) from error

    def _decoded(self, row: int, column: int, stored: Stored) -> np.ndarray:
        with _opened(bytes(stored[0])) as image:
            image.load()
            _require_upright(image, self.path)
            if image.size != (self.width, self.height):
                raise ScanError(f"{self.path}: changed while it was being read.", to_fix="run again when it is whole")
            pixels = _scan_samples(image) if self.use == "scan" else self._labels(image)
        return pixels if pixels.ndim == 3 else pixels[..., None]

    def _labels(self, image: ImageFile) -> np.ndarray:
        if isinstance(image, JpegImageFile):
            return _rounded(np.asarray(image.convert("L")), self.path)
        if image.mode == "P":
            return self._indexed(image)
        if image.mode in ("1", "L", "I;16"):
            return np.asarray(image).astype(np.uint16) // _STRETCHED_BY.get(self.depth, 1)
        pixels = np.asarray(image)
        alpha = pixels[..., -1] if image.mode in ("LA", "RGBA", "PA") else np.array(_OPAQUE)
        colours = pixels[..., :3] if image.mode.startswith("RGB") else pixels[..., :1]
        if (alpha != _OPAQUE).any() or image.mode == "PA":
            raise _no_labels(self.path, "is transparent in places")
        if (colours != colours[..., :1]).any():
            raise _no_labels(self.path, "holds colours")
        return colours[..., 0]

    def _indexed(self, image: ImageFile) -> np.ndarray:
        """Return the numbers of a picture with a palette: those stored, whatever colour they are shown in."""
        numbers = np.asarray(image)
        palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)[: int(numbers.max(initial=0)) + 1]
        is_grey = bool((palette == palette[:, :1]).all())
        if not is_grey or (palette[:, 0] == np.arange(len(palette))).all():
            return numbers
        # People see the grey values, other programs read the numbers.
        if self.use == "mask":
            return palette[numbers, 0]
        raise _no_labels(self.path, "shows its numbers as other grey values")


@dataclass(frozen=True, eq=False)
class PictureReader(Reader):
    """A PNG or JPEG."""

    format = "PNG and JPEG"
    levels: tuple[PictureLevel, ...]
    mode: str
    is_jpeg: bool

    @classmethod
    def recognises(cls, path: Path, head: bytes) -> bool:
        """Whether a file begins as a PNG or JPEG does."""
        return head.startswith((_PNG, _JPEG))

    @classmethod
    def open(cls, path: Path, pick: Pick = UNPICKED) -> Self:
        """See `Reader.open`; a picture that is too large for one piece, turned, or of another kind is refused."""
        if str(pick):
            raise unknown_pick(path, str(pick), ())
        try:
            state = FileState.of(path)
            if state.size > _MOST_BYTES:
                raise _too_large(path, f"{state.size / 1e9:.1f} GB")
            head = read_bytes(state, 0, _HEADER_BYTES)
            with _opened(head) as image:
                width, height = image.size
                if width * height > LARGEST_PX:
                    raise _too_large(path, f"{width} × {height} px")
                depth = head[_DEPTH_AT] if isinstance(image, PngImageFile) else 8
                _require_plain(image, depth, path)
                _require_upright(image, path)
                dtype = np.dtype(np.uint16 if image.mode == "I;16" else np.uint8)
                level = PictureLevel(path, 1, height, width, height, width, dtype, None, state, depth, "scan")
                return cls(state, (level,), None, image.mode, isinstance(image, JpegImageFile))
        except ScanError:
            raise
        except OSError as error:
            raise ScanError(f"{path}: cannot be read ({error.strerror or error!s:.120}).") from error
        except Exception as error:  # a damaged header can make Pillow raise anything
            raise ScanError(
                f"{path}: is no PNG or JPEG that can be read ({type(error).__name__}: {error!s:.120}).",
                to_fix="copy it again from its source, or leave it out with status withdrawn in a section table",
            ) from error

    @property
    def compression(self) -> str:
        """Compression, in words."""
        return "JPEG" if self.is_jpeg else "Deflate"

    def samples(self) -> Samples:
        """Describe how grey values are made of what is stored."""
        return Samples(self.mode not in _GREY_MODES, 16 if self.mode == "I;16" else 8)

    def digest(self) -> str:
        """Return the digest of all bytes."""
        return digest_of({"bytes": self.state.size, "all": digest_bytes(read_bytes(self.state, 0, self.state.size))})

    def require_labels(self) -> None:
        """Check that the picture is stored without loss; its colours are checked when it is decoded.

        Raises
        ------
        ScanError
            It is a JPEG.
        """
        if self.is_jpeg:
            raise _no_labels(self.path, "is a JPEG, which changes the numbers of labels")

    def label_level(self) -> Level:
        """Return the level with the numbers of a label image.

        Raises
        ------
        ScanError
            It is a JPEG.
        """
        self.require_labels()
        return replace(self.levels[0], use="labels")

    def mask_level(self) -> Level:
        """Return the level with the numbers of a mask; a JPEG's are rounded to 0 and 255."""
        return replace(self.levels[0], use="mask")


def _opened(data: bytes) -> ImageFile:
    # Not Image.open: it warns of large pictures, tries formats by turns, and reads more of them than are meant here.
    kind = PngImageFile if data.startswith(_PNG) else JpegImageFile
    return kind(io.BytesIO(data))


def _require_plain(image: ImageFile, depth: int, path: Path) -> None:
    if image.mode not in _MODES or (depth == 16 and image.mode != "I;16"):
        raise ScanError(
            f"{path}: samples of {depth} bit of kind {image.mode} are not read from a {image.format}.",
            to_fix="export it as TIFF, or as grey values or RGB of 8 bit",
        )


def _require_upright(image: ImageFile, path: Path) -> None:
    """Refuse a picture that is to be turned before it is shown: some programs turn it, others do not."""
    exif = Image.Exif()
    exif.load(image.info.get("exif") or b"")
    if exif.get(_ORIENTATION, 1) != 1:
        raise ScanError(
            f"{path}: is to be shown turned (EXIF orientation {exif[_ORIENTATION]}).",
            to_fix="save it upright, without an EXIF orientation",
        )


def _scan_samples(image: ImageFile) -> np.ndarray:
    """Return grey values or RGB; what is transparent lies on white."""
    if image.mode not in ("LA", "RGBA", "PA") and "transparency" not in image.info:
        converted = {"1": "L", "P": "RGB"}.get(image.mode)
        return np.asarray(image.convert(converted) if converted else image)
    if image.mode == "I;16":
        grey = np.asarray(image)
        return np.where(grey == image.info["transparency"], np.iinfo(np.uint16).max, grey).astype(np.uint16)
    light = Image.new("RGBA", image.size, "white")
    light.alpha_composite(image.convert("RGBA"))
    return np.asarray(light.convert("L" if image.mode in _GREY_MODES else "RGB"))


def _rounded(grey: np.ndarray, path: Path) -> np.ndarray:
    between = float(((grey >= _DARK_BELOW) & (grey < _LIGHT_FROM)).mean())
    if between > _BETWEEN or grey.max(initial=0) < _LIGHT_FROM:
        raise _no_labels(path, "is a JPEG, which changes numbers, and its grey values are not black and white")
    return np.where(grey >= _HALF, np.uint8(255), np.uint8(0))


def _no_labels(path: Path, what: str) -> ScanError:
    return ScanError(f"{path}: {what}.", to_fix="export the labels' numbers as grey values, as PNG or TIFF")


def _too_large(path: Path, size: str) -> ScanError:
    return ScanError(
        f"{path}: {size} are too many for one piece.", to_fix="convert it to a TIFF with tiles of 512 × 512 px"
    )


READER = PictureReader
