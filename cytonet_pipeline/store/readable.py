"""Whether a file can be read as what its name says, for files whose digest nobody recorded."""

import gzip
import json
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

_CHUNK_BYTES = 1 << 20


def fault_of_content(path: Path) -> str | None:
    """Read a file of a result to its end.

    Returns
    -------
    str or None
        What is wrong with it; None if it was read, or is of a kind whose content is not known here.

    Raises
    ------
    OSError
        The file system does not give it.
    """
    check = _CHECKS.get(path.suffix)
    try:
        if check is not None:
            check(path)
    except Exception as error:  # Each library has errors of its own for what it cannot read.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        return f"not readable: {(str(error).splitlines() or [type(error).__name__])[0]}"
    return None


def _parquet(path: Path) -> None:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        for _ in file.iter_batches():
            pass


def _safetensors(path: Path) -> None:
    import safetensors

    with safetensors.safe_open(path, "numpy") as opened:
        for name in opened.keys():  # noqa: SIM118
            opened.get_slice(name)


def _npz(path: Path) -> None:
    with zipfile.ZipFile(path) as opened:
        damaged = opened.testzip()
    if damaged:
        raise zlib.error(f"{damaged} in it is damaged")


def _gzip(path: Path) -> None:
    with gzip.open(path) as stream:
        while stream.read(_CHUNK_BYTES):
            pass


def _png(path: Path) -> None:
    from PIL import Image

    with Image.open(path) as image:
        image.verify()


_CHECKS: dict[str, Callable[[Path], object]] = {
    ".parquet": _parquet,
    ".safetensors": _safetensors,
    ".npz": _npz,
    ".gz": _gzip,
    ".png": _png,
    ".gii": lambda path: ElementTree.parse(path),
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    **dict.fromkeys((".csv", ".tsv", ".md", ".tex"), lambda path: path.read_text(encoding="utf-8")),
}
