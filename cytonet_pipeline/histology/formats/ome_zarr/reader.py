"""OME-Zarr scans (NGFF 0.4 on Zarr 2, 0.5 on Zarr 3): levels, pixel size and channels from the multiscales metadata."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from cytonet_pipeline.dataset import UNPICKED, Pick
from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.formats.channels import COLOURS, require_colours
from cytonet_pipeline.histology.formats.digest import SAMPLED_BYTES, is_small, sampled
from cytonet_pipeline.histology.formats.files import FileState
from cytonet_pipeline.histology.formats.levels import Level, Stored, whole_factor
from cytonet_pipeline.histology.formats.ome_zarr.array import ZarrArray, read_array
from cytonet_pipeline.histology.formats.ome_zarr.images import METADATA, ZarrImage, axes_of, chosen_image, scale_of
from cytonet_pipeline.histology.formats.reader import Reader, Samples
from cytonet_pipeline.store import digest_bytes, digest_of

_MOST_LEVELS = 64
_ALL_METADATA = (*METADATA, ".zarray", ".zgroup", ".zmetadata")
_UM_PER_UNIT = {
    "angstrom": 1e-4,
    "nanometer": 1e-3,
    "micrometer": 1.0,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "meter": 1e6,
    "inch": 25400.0,
}


@dataclass(frozen=True, eq=False)
class ZarrLevel(Level):
    """An array of the pyramid; `axes` names its axes, for instance `tczyx`."""

    array: ZarrArray
    axes: str

    def fetch(self, row: int, columns: Sequence[int]) -> Iterator[list[tuple[int, Stored | None]]]:
        """Read chunks of one row, one piece per channel or group of channels."""
        for column in columns:
            planes = [self._stored(row, column, channel) for channel in range(self._pieces)]
            left_out = self.array.fill is None and None in planes
            yield [(column, None if left_out else [plane or b"" for plane in planes])]

    def beyond(self) -> int:
        """Return 0: chunks are files of their own."""
        return 0

    def present(self) -> np.ndarray:
        """Return which chunks have a file; of shards, those whose shard has one."""
        rows, columns = self.grid
        return np.array([[self._is_there(row, column) for column in range(columns)] for row in range(rows)])

    def _is_there(self, row: int, column: int) -> bool:
        return self.array.file({"y": row, "x": column}.get(axis, 0) for axis in self.axes) in self._file_names

    @cached_property
    def _file_names(self) -> frozenset[str]:
        """Names of all files of the array, relative to its folder."""
        return frozenset(name for name, _ in files_below(self.array.folder))

    @property
    def _pieces(self) -> int:
        if "c" not in self.axes:
            return 1
        axis = self.axes.index("c")
        return math.ceil(self.array.shape[axis] / self.array.chunk[axis])

    def _stored(self, row: int, column: int, channel: int) -> bytes | None:
        number = {"y": row, "x": column, "c": channel}
        try:
            return self.array.stored(tuple(number.get(axis, 0) for axis in self.axes))
        except ScanError as error:
            raise self._damaged(row, column, error.what) from error
        except OSError as error:
            raise self._damaged(row, column, f"cannot be read ({error.strerror or error}).") from error

    def _decoded(self, row: int, column: int, stored: Stored) -> np.ndarray:
        planes = [self._plane(bytes(data)) for data in stored]
        pixels = np.concatenate(planes) if len(planes) > 1 else planes[0]
        channels = self.array.shape[self.axes.index("c")] if "c" in self.axes else 1
        return np.ascontiguousarray(np.moveaxis(pixels[:channels], 0, -1))

    def _plane(self, data: bytes) -> np.ndarray:
        """Decode one piece to (channels, y, x)."""
        fill = self.array.fill or 0
        pixels = self.array.decode(data) if data else np.full(self.array.chunk, fill, self.dtype)
        # Time and depth have length 1, whatever a chunk has room for.
        pixels = pixels[tuple(0 if axis in "tz" else slice(None) for axis in self.axes)]
        return pixels if "c" in self.axes else pixels[None]


@dataclass(frozen=True, eq=False)
class OmeZarrReader(Reader):
    """OME-Zarr: a folder whose metadata name the arrays of a pyramid."""

    format = "OME-Zarr"
    levels: tuple[ZarrLevel, ...]
    channels: int

    @classmethod
    def recognises(cls, path: Path, head: bytes) -> bool:
        """Whether a folder holds metadata of Zarr groups."""
        return not head and any((group / name).is_file() for group in (path, path / "0") for name in METADATA)

    @classmethod
    def open(cls, path: Path, pick: Pick = UNPICKED) -> Self:
        """See `Reader.open`."""
        try:
            image, doubts = chosen_image(path, pick)
            levels = _levels(image.group, image.multiscales)
            metadata = FileState.of(image.group / image.file)
            state = FileState(path, metadata.size, metadata.mtime_ns)
            channels = require_channels(levels[0], image, path)
            pixel_um, remark = _image_pixel_um(image.multiscales)
            reading = image.reading(levels)
            return cls(state, levels, pixel_um, channels, doubts=doubts, reading=reading, size_remark=remark)
        except ScanError as error:
            if str(path) in error.what:
                raise
            raise ScanError(f"{path}: {error.what}", to_fix=error.to_fix) from error
        except OSError as error:
            raise ScanError(f"{path}: cannot be read ({error.strerror or error}).") from error
        except Exception as error:  # metadata can be anything
            raise ScanError(
                f"{path}: its OME metadata cannot be read ({type(error).__name__}: {error!s:.80}).",
                to_fix="copy it again from its source, or leave it out with status withdrawn in a section table",
            ) from error

    @cached_property
    def files(self) -> list[tuple[str, int]]:
        """All files below the folder, by name, with their sizes."""
        return files_below(self.path)

    @property
    def bytes(self) -> int:
        """Size of all files together."""
        return sum(size for _, size in self.files)

    @property
    def compression(self) -> str:
        """Compression of the full resolution, in words."""
        return self.levels[0].array.compression

    def samples(self) -> Samples:
        """Describe how grey values are made of what is stored."""
        return Samples(self.channels == COLOURS, 8 * self.levels[0].dtype.itemsize)

    def require_labels(self) -> None:
        """Refuse: labels are read from TIFF alone.

        Raises
        ------
        ScanError
            Always.
        """
        raise ScanError(f"{self.path}: is a folder, not a TIFF.", to_fix="export the labels as a TIFF")

    def digest(self) -> str:
        """Return the digest of names and sizes of all files, the metadata, and the bytes of 64 chunks."""
        whole = is_small(self.bytes)
        chunks = [name for name, _ in self.files if not name.endswith(_ALL_METADATA)]
        read = {name for name, _ in self.files} - (set() if whole else set(chunks))
        read |= {chunks[i] for i in sampled(len(chunks))}
        contents = {name: digest_bytes(_beginning(self.path / name, whole=whole)) for name in sorted(read)}
        # A folder that is read otherwise than before is another scan.
        otherwise = {"read": self.reading} if self.reading else {}
        return digest_of({"files": self.files, "contents": contents, **otherwise})


def files_below(folder: Path) -> list[tuple[str, int]]:
    """Return all files below a folder by name, sorted, with their sizes."""
    files = []
    for place, _, names in os.walk(folder):
        with os.scandir(place) as entries:
            files += [(os.path.relpath(e.path, folder), e.stat().st_size) for e in entries if names and e.is_file()]
    return sorted(files)


def _beginning(path: Path, *, whole: bool) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read() if whole else stream.read(SAMPLED_BYTES)
    except OSError as error:
        raise ScanError(f"{path}: cannot be read ({error.strerror or error}).") from error


def require_channels(level: ZarrLevel, image: ZarrImage, path: Path) -> int:
    """Return the number of channels, one or the three colours.

    Raises
    ------
    ScanError
        They are something else.
    """
    channels = level.array.shape[level.axes.index("c")] if "c" in level.axes else 1
    require_colours(channels, *image.channels(), path)
    return channels


def _levels(group: Path, image: Mapping[str, Any]) -> tuple[ZarrLevel, ...]:
    axes = "".join(name for name, _ in axes_of(image))
    arrays = [_array(group, str(dataset["path"]), axes) for dataset in image["datasets"][:_MOST_LEVELS]]
    full = arrays[0]
    levels: dict[int, ZarrLevel] = {}
    for array in arrays:
        (height, width), (chunk_height, chunk_width) = array.shape[-2:], array.chunk[-2:]
        factor = 1 if array is full else whole_factor((full.shape[-2], full.shape[-1]), (height, width))
        alike = array.dtype == full.dtype and array.shape[:-2] == full.shape[:-2]
        if factor and alike and factor not in levels:
            shape = (factor, height, width, chunk_height, chunk_width)
            levels[factor] = ZarrLevel(group, *shape, array.dtype.newbyteorder("="), None, array, axes)
    return tuple(levels[factor] for factor in sorted(levels))


def _array(group: Path, name: str, axes: str) -> ZarrArray:
    folder = Path(os.path.normpath(group / name))
    if not folder.is_relative_to(group):
        raise ScanError(f"{group}: names a level {name!s:.60} outside of itself.", to_fix="copy it from its source")
    array = read_array(folder)
    if len(array.shape) != len(axes):
        raise ScanError(f"{folder}: has {len(array.shape)} axes instead of {axes}.", to_fix="export it again")
    if any(edge != 1 for axis, edge in zip(axes, array.shape, strict=True) if axis in "tz"):
        raise ScanError(f"{folder}: has more than one plane or time.", to_fix="export one plane, t and z of length 1")
    return array


def _image_pixel_um(image: Mapping[str, Any]) -> tuple[tuple[float, float] | None, str]:
    """Return width and height of a full-resolution pixel in µm, if it has both and their units; and what it has."""
    axes = axes_of(image)
    sizes = scale_of(image, len(axes))
    if sizes is None:
        return None, ""
    units = [unit for _, unit in axes[-2:]]
    height, width = (s * _UM_PER_UNIT.get(str(u), math.nan) for s, u in zip(sizes[-2:], units, strict=True))
    if all(math.isfinite(size) and size > 0 for size in (width, height)):
        return (width, height), ""
    named = " and ".join(dict.fromkeys(repr(str(unit)) for unit in units if unit is not None))
    what = f"in {named}, a unit that is not understood" if named else "without a unit"
    return None, f"its multiscales give a scale of {sizes[-1]:g} × {sizes[-2]:g} {what}"
