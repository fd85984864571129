"""OME-Zarr scans (NGFF 0.4 on Zarr 2, 0.5 on Zarr 3): levels, pixel size and channels from the multiscales metadata."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.formats.digest import SAMPLED_BYTES, is_small, sampled
from cytonet_pipeline.histology.formats.files import FileState
from cytonet_pipeline.histology.formats.levels import Level, Stored, whole_factor
from cytonet_pipeline.histology.formats.ome_zarr.array import ZarrArray, read_array, read_json
from cytonet_pipeline.histology.formats.reader import Reader, Samples
from cytonet_pipeline.store import digest_bytes, digest_of

_MOST_LEVELS = 64
_COLOURS = 3
_METADATA = ("zarr.json", ".zattrs")
_ALL_METADATA = (*_METADATA, ".zarray", ".zgroup", ".zmetadata")
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

    @classmethod
    def recognises(cls, path: Path, head: bytes) -> bool:
        """Whether a folder holds metadata of Zarr groups."""
        return not head and any((group / name).is_file() for group in (path, path / "0") for name in _METADATA)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read the metadata of an OME-Zarr.

        Raises
        ------
        ScanError
            The folder is no OME-Zarr, or announces what cannot be.
        """
        try:
            group, image = _multiscales(path)
            levels = _levels(group, image)
            metadata = next((FileState.of(group / name) for name in _METADATA if (group / name).is_file()), None)
            assert metadata is not None
            return cls(FileState(path, metadata.size, metadata.mtime_ns), levels, _image_pixel_um(image))
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
        files = []
        for folder, _, names in os.walk(self.path):
            with os.scandir(folder) as entries:
                files += [
                    (os.path.relpath(e.path, self.path), e.stat().st_size) for e in entries if names and e.is_file()
                ]
        return sorted(files)

    @property
    def bytes(self) -> int:
        """Size of all files together."""
        return sum(size for _, size in self.files)

    @property
    def compression(self) -> str:
        """Compression of the full resolution, in words."""
        return self.levels[0].array.compression

    def samples(self) -> Samples:
        """Describe how grey values are made of what is stored.

        Raises
        ------
        ScanError
            It has other channels than grey or RGB.
        """
        level = self.levels[0]
        channels = level.array.shape[level.axes.index("c")] if "c" in level.axes else 1
        if channels not in (1, _COLOURS):
            raise ScanError(
                f"{self.path}: {channels} channels are not read.", to_fix="export the scan as grey values or RGB"
            )
        return Samples(channels == _COLOURS, 8 * level.dtype.itemsize)

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
        return digest_of({"files": self.files, "contents": contents})


def _beginning(path: Path, *, whole: bool) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read() if whole else stream.read(SAMPLED_BYTES)
    except OSError as error:
        raise ScanError(f"{path}: cannot be read ({error.strerror or error}).") from error


def _multiscales(path: Path) -> tuple[Path, Mapping[str, Any]]:
    """Find the group that holds the image, and its first multiscales entry."""
    # bioformats2raw puts each image of a file into a group of its own.
    for group in (path, path / "0"):
        three = read_json(group / "zarr.json").get("attributes", {}).get("ome", {})
        for attributes in (three, read_json(group / ".zattrs")):
            if attributes.get("multiscales"):
                return group, attributes["multiscales"][0]
    raise ScanError(
        f"{path}: is a folder, but no OME-Zarr.",
        looked_for=("multiscales in zarr.json (NGFF 0.5)", "multiscales in .zattrs (NGFF 0.4)"),
        to_fix="copy it again from its source, or name another scan in the section table",
    )


def _axes(image: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """Return names and units of the axes."""
    axes = [(a, None) if isinstance(a, str) else (a["name"], a.get("unit")) for a in image.get("axes", "tczyx")]
    names = "".join(name for name, _ in axes)
    if not names.endswith("yx") or len(set(names)) != len(axes) or not set(names) <= set("tczyx"):
        raise ScanError(f"its axes {names!s:.20} are not read.", to_fix="export it with axes t, c, z, y, x")
    return axes


def _levels(group: Path, image: Mapping[str, Any]) -> tuple[ZarrLevel, ...]:
    axes = "".join(name for name, _ in _axes(image))
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


def _image_pixel_um(image: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return width and height of a full-resolution pixel in µm; None if a length or its unit is missing."""
    axes = _axes(image)
    sizes = [1.0] * len(axes)
    changes = [*image["datasets"][0].get("coordinateTransformations", ()), *image.get("coordinateTransformations", ())]
    scales = [change["scale"] for change in changes if change.get("type") == "scale" and "scale" in change]
    for scale in scales:
        sizes = [size * float(by) for size, by in zip(sizes, scale, strict=True)]
    units = [_UM_PER_UNIT.get(str(unit), math.nan) for _, unit in axes[-2:]]
    height, width = (size * unit for size, unit in zip(sizes[-2:], units, strict=True))
    sound = bool(scales) and all(math.isfinite(size) and size > 0 for size in (width, height))
    return (width, height) if sound else None
