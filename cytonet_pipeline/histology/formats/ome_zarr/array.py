"""Chunks of a Zarr array, format 2 or 3, read without trusting its metadata.

The library `zarr` is not used: its codecs allocate what compressed data announce, and every read goes through an event
loop. Metadata are a page of JSON, and `imagecodecs` decodes into memory of the size that a chunk must have. Supported:
unsigned 8 or 16 bit; Blosc, Zstd, Gzip, Zlib, LZ4 or nothing; either byte order; transposed; in shards.
Checksums (crc32c) are skipped.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import imagecodecs
import numpy as np

from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.formats.levels import LARGEST_CHUNK

_MOST_JSON_BYTES = 16 << 20
_MOST_INNER_CHUNKS = 1 << 24
_LARGEST_EDGE = 1 << 31
_CHECKSUM_BYTES = 4
_ABSENT = 2**64 - 1
_DTYPES = {"uint8": "u1", "uint16": "u2", "|u1": "u1", "<u1": "u1", ">u1": "u1", "<u2": "<u2", ">u2": ">u2"}
_BLOSC_HEADER_BYTES = 16


def _blosc(data: bytes, out: np.ndarray) -> int:
    # The library trusts the lengths in the header, and reads and writes beyond its memory if they are wrong.
    lengths = [int.from_bytes(data[i : i + 4], "little") for i in (4, 8, 12)]
    if (
        len(data) < _BLOSC_HEADER_BYTES
        or lengths[0] != out.size
        or lengths[2] != len(data)
        or not 0 < lengths[1] <= out.size
    ):
        raise ScanError("announces another size than its array or its file.")
    return len(imagecodecs.blosc_decode(data, out=out.data))


_DECODERS: dict[str, Callable[[bytes, np.ndarray], int]] = {
    "blosc": _blosc,
    "zstd": lambda data, out: len(imagecodecs.zstd_decode(data, out=out.data)),
    "gzip": lambda data, out: len(imagecodecs.gzip_decode(data, out=out.data)),
    "zlib": lambda data, out: len(imagecodecs.zlib_decode(data, out=out.data)),
    "lz4": lambda data, out: len(imagecodecs.lz4_decode(data, header=True, out=out.data)),
}
_CHECKSUM = "crc32c"


@dataclass(frozen=True, eq=False)
class ZarrArray:
    """An array of `shape`, stored in chunks of `chunk`; with `shard`, many of these in one file.

    `codecs` are those that bytes went through when they were written, `order` is how axes were transposed before.
    """

    folder: Path
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    dtype: np.dtype
    codecs: tuple[str, ...]
    order: tuple[int, ...]
    fill: int | None
    shard: tuple[int, ...] | None
    index_at_end: bool
    index_bytes: int
    prefix: str
    separator: str

    @property
    def compression(self) -> str:
        """Compression of the chunks, in words."""
        return next((codec.capitalize() for codec in self.codecs if codec != _CHECKSUM), "none")

    def stored(self, index: tuple[int, ...]) -> bytes | None:
        """Read a chunk as it is stored; None if it is left out.

        Raises
        ------
        OSError
            The file cannot be read.
        ScanError
            The shard is damaged.
        """
        try:
            with (self.folder / self.file(index)).open("rb") as stream:
                if self.shard is None:
                    return _limited(stream.read(2 * LARGEST_CHUNK + 1))
                return self._inner(stream, index)
        except FileNotFoundError:
            return None

    def file(self, index: Iterable[int]) -> str:
        """Return the name of the file that holds a chunk, relative to the folder."""
        name = tuple(index)
        if self.shard is not None:
            name = tuple(i * c // s for i, c, s in zip(name, self.chunk, self.shard, strict=True))
        return self.prefix + self.separator.join(map(str, name))

    def decode(self, stored: bytes) -> np.ndarray:
        """Decode a chunk to pixels, in the order of the axes.

        Raises
        ------
        ScanError
            It has another size than it must have; codecs may raise anything else.
        """
        size = math.prod(self.chunk) * self.dtype.itemsize
        for position in reversed(range(len(self.codecs))):
            codec = self.codecs[position]
            if codec == _CHECKSUM:
                stored = stored[:-_CHECKSUM_BYTES]
                continue
            out = np.empty(size + _CHECKSUM_BYTES * self.codecs[:position].count(_CHECKSUM), np.uint8)
            if _DECODERS[codec](stored, out) != out.size:
                raise ScanError("holds fewer pixels than a chunk has.")
            stored = out.tobytes()
        if len(stored) != size:
            raise ScanError(f"has {len(stored)} bytes instead of {size}.")
        written = np.frombuffer(stored, self.dtype).reshape([self.chunk[axis] for axis in self.order])
        return written.transpose(np.argsort(self.order)).astype(self.dtype.newbyteorder("="))

    def _inner(self, stream: Any, index: tuple[int, ...]) -> bytes | None:
        """Read a chunk from a shard by the shard's index."""
        assert self.shard is not None
        counts = [s // c for s, c in zip(self.shard, self.chunk, strict=True)]
        number = 0
        for i, count in zip(index, counts, strict=True):
            number = number * count + i % count
        end = os.fstat(stream.fileno()).st_size
        at = (end - self.index_bytes if self.index_at_end else 0) + 16 * number
        entry = os.pread(stream.fileno(), 16, at) if at >= 0 else b""
        offset, length = np.frombuffer(entry, "<u8").tolist() if len(entry) == 16 else (end, 1)
        if offset == length == _ABSENT:
            return None
        if offset + length > end:
            raise ScanError("lies beyond the end of its shard: the scan is truncated.")
        stream.seek(offset)
        return _limited(stream.read(min(length, 2 * LARGEST_CHUNK + 1)))


def _limited(data: bytes) -> bytes:
    if len(data) > 2 * LARGEST_CHUNK:
        raise ScanError(f"is a chunk of more than {2 * LARGEST_CHUNK} bytes.")
    return data


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of metadata; empty where there is no file.

    Raises
    ------
    ScanError
        It is no JSON object, or absurdly large.
    """
    try:
        with path.open("rb") as stream:
            text = stream.read(_MOST_JSON_BYTES + 1)
        content = json.loads(text) if len(text) <= _MOST_JSON_BYTES else None
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, RecursionError) as error:
        raise ScanError(f"{path}: is no JSON ({error!s:.80}).", to_fix="copy the scan again from its source") from error
    if not isinstance(content, dict):
        raise ScanError(f"{path}: holds no metadata.", to_fix="copy the scan again from its source")
    return content


def read_array(folder: Path) -> ZarrArray:
    """Read the metadata of an array, of format 3 (`zarr.json`) or 2 (`.zarray`).

    Raises
    ------
    ScanError
        There is none, it announces what cannot be, or is stored in a way that is not read.
    """
    three, two = read_json(folder / "zarr.json"), read_json(folder / ".zarray")
    if not three and not two:
        raise ScanError(f"{folder}: holds no Zarr array.", looked_for=("zarr.json", ".zarray"))
    try:
        array = _format_3(folder, three) if three else _format_2(folder, two)
    except ScanError as error:
        raise ScanError(f"{folder}: {error.what}", to_fix="convert the scan to OME-TIFF with tiles") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise ScanError(
            f"{folder}: its metadata cannot be read ({type(error).__name__}: {error!s:.80}).",
            to_fix="copy the scan again from its source",
        ) from error
    _require_possible(array)
    return array


def _format_2(folder: Path, metadata: Mapping[str, Any]) -> ZarrArray:
    if metadata.get("filters"):
        raise ScanError(f"filters {metadata['filters']!s:.80} are not read.")
    compressor = metadata.get("compressor")
    codecs = () if compressor is None else (_codec(compressor["id"]),)
    shape = _edges(metadata["shape"])
    order = tuple(range(len(shape)))
    order = order[::-1] if metadata.get("order") == "F" else order
    fill = metadata.get("fill_value")
    chunk = _edges(metadata["chunks"])
    dtype = np.dtype(_dtype(metadata["dtype"]))
    separator = metadata.get("dimension_separator", ".")
    return ZarrArray(folder, shape, chunk, dtype, codecs, order, _fill(fill), None, True, 0, "", _separator(separator))


def _format_3(folder: Path, metadata: Mapping[str, Any]) -> ZarrArray:
    shape = _edges(metadata["shape"])
    chunk = _edges(metadata["chunk_grid"]["configuration"]["chunk_shape"])
    keys = metadata["chunk_key_encoding"]
    options = keys.get("configuration") or {}
    default = keys["name"] == "default"
    separator = _separator(options.get("separator", "/" if default else "."))
    codecs, shard, at_end, index_bytes = list(metadata["codecs"]), None, True, 0
    if codecs and codecs[0]["name"] == "sharding_indexed":
        sharding = codecs[0]["configuration"]
        shard, chunk = chunk, _edges(sharding["chunk_shape"])
        at_end = sharding.get("index_location", "end") == "end"
        checked = sum(_CHECKSUM_BYTES for codec in sharding["index_codecs"] if codec["name"] == _CHECKSUM)
        if len(codecs) > 1 or len(chunk) != len(shard) or any(s % c for s, c in zip(shard, chunk, strict=True)):
            raise ScanError("shards of this kind are not read.")
        index_bytes = 16 * math.prod(s // c for s, c in zip(shard, chunk, strict=True)) + checked
        codecs = list(sharding["codecs"])
    order, endian, names = _pipeline(codecs, len(shape))
    dtype = np.dtype(_dtype(metadata["data_type"])).newbyteorder(endian)
    prefix = f"c{separator}" if default else ""
    fill = _fill(metadata.get("fill_value"))
    return ZarrArray(folder, shape, chunk, dtype, names, order, fill, shard, at_end, index_bytes, prefix, separator)


def _pipeline(codecs: list[Mapping[str, Any]], axes: int) -> tuple[tuple[int, ...], Literal["<", ">"], tuple[str, ...]]:
    """Return the order of axes, the byte order, and the names of the codecs that bytes go through."""
    order, names = tuple(range(axes)), list[str]()
    endian: Literal["<", ">"] = "<"
    for codec in codecs:
        options = codec.get("configuration") or {}
        if codec["name"] == "transpose" and not names:
            order = tuple(order[int(axis)] for axis in options["order"])
            if sorted(order) != list(range(axes)):
                raise ScanError("has axes transposed in a way that is not read.")
        elif codec["name"] == "bytes":
            endian = ">" if options.get("endian") == "big" else "<"
        else:
            names.append(_codec(codec["name"]))
    return order, endian, tuple(names)


def _codec(name: str) -> str:
    if name not in _DECODERS and name != _CHECKSUM:
        raise ScanError(f"codec {name!s:.40} is not read; {', '.join(sorted(_DECODERS))} are.")
    return name


def _dtype(name: Any) -> str:
    if not isinstance(name, str) or name not in _DTYPES:
        raise ScanError(f"samples of kind {name!s:.40} are not read, only unsigned 8 or 16 bit.")
    return _DTYPES[name]


def _separator(separator: Any) -> str:
    if separator not in (".", "/"):
        raise ScanError(f"chunk names with {separator!s:.10} are not read.")
    return str(separator)


def _edges(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, list) or not 2 <= len(shape) <= 5:
        raise ScanError("has a shape of fewer than 2 or more than 5 axes.")
    if not all(isinstance(edge, int) and 0 < edge < _LARGEST_EDGE for edge in shape):
        raise ScanError(f"announces {shape!s:.60} px or chunks.")
    return tuple(shape)


def _fill(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 <= value <= 65535 else None


def _require_possible(array: ZarrArray) -> None:
    size = math.prod(array.chunk) * array.dtype.itemsize
    if len(array.chunk) != len(array.shape) or size > LARGEST_CHUNK or array.index_bytes > 16 * _MOST_INNER_CHUNKS:
        raise ScanError(
            f"{array.folder}: announces chunks of {' × '.join(map(str, array.chunk))} px.",
            to_fix="convert the scan to chunks of 512 × 512 px",
        )
