"""The formats of scans: which reader opens a file, and the digest of any scan.

To add a format, write a module beside this one whose `READER` is a `Reader`, and name its file name extensions in
`dataset.names.SCAN_FORMATS`. Discovery, inventory, digests and training then take its scans like any others.
"""

import pkgutil
from importlib import import_module
from pathlib import Path

from cytonet_pipeline.dataset import SCAN_FORMATS, UNPICKED, Pick
from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology import formats
from cytonet_pipeline.histology.formats.reader import Reader

_HEAD_BYTES = 16


def _collect() -> dict[str, type[Reader]]:
    """Collect the readers of the modules in this folder by the names of their formats."""
    modules = [import_module(f"{formats.__name__}.{module.name}") for module in pkgutil.iter_modules(formats.__path__)]
    readers: dict[str, type[Reader]] = {m.READER.format: m.READER for m in modules if hasattr(m, "READER")}
    if readers.keys() != SCAN_FORMATS.keys():
        raise LookupError(
            f"dataset.names.SCAN_FORMATS names {', '.join(SCAN_FORMATS)}, but {formats.__name__} has readers of "
            f"{', '.join(readers)}; add the missing line or module."
        )
    return readers


READERS = _collect()


def open_reader(path: Path, pick: Pick = UNPICKED) -> Reader:
    """Open a scan by its content, or by its name where the content is of no known format.

    Parameters
    ----------
    pick : Pick
        Which image of a file that holds several.

    Raises
    ------
    ScanError
        The scan is missing, of no known format, or announces what it cannot hold.
    """
    head = _head(path)
    for reader in READERS.values():
        if reader.recognises(path, head):
            return reader.open(path, pick)
    for name, extensions in SCAN_FORMATS.items():
        # Its reader says what is wrong with it.
        if path.name.lower().endswith(extensions):
            return READERS[name].open(path, pick)
    content = f"it begins with {head[:4]!r}" if path.is_file() else "it is a folder"
    raise ScanError(
        f"{path}: is in no format that is read ({content}); {', '.join(SCAN_FORMATS)} are.",
        to_fix="copy it again from its source, or convert it to OME-TIFF",
    )


def scan_digest(path: Path | str) -> str:
    """Return the digest of a scan: its size, the places and byte counts of all tiles, and the bytes of 64 tiles.

    Of an OME-Zarr: names and sizes of all files, the metadata, and the bytes of 64 chunks.

    Of scans up to 16 MiB every byte counts. In larger ones a change within a tile that is not sampled and keeps its
    length stays unseen; `store.digest_file` sees all.

    Raises
    ------
    ScanError
        The scan cannot be read.
    """
    return open_reader(Path(path)).digest()


def _head(path: Path) -> bytes:
    try:
        if path.is_dir():
            return b""
        with path.open("rb") as stream:
            return stream.read(_HEAD_BYTES)
    except FileNotFoundError:
        raise ScanError(f"{path}: is not there.", to_fix="put it there or correct the path") from None
    except OSError as error:
        raise ScanError(f"{path}: cannot be read ({error.strerror or error}).") from error
