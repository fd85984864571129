"""Decoding strangers' files first in a process of its own, so that a crash of a codec there is a fault of that file.

JPEG, JPEG 2000 and Blosc are decoded by large native libraries, and one that writes beyond its memory ends the whole
process. The other codecs are simple, and are given the size that they must fill.
"""

from pathlib import Path

from cytonet_pipeline.dataset import UNPICKED, Pick
from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.guard import GuardedProcess, GuardedProcessError, seconds_for
from cytonet_pipeline.histology.formats.registry import open_reader

_RISKY = frozenset({"JPEG", "JPEG 2000", "Blosc"})
_decoder = GuardedProcess(["-m", "cytonet_pipeline.histology.inventory.codec_worker"])


def require_decodable(path: Path, pick: Pick, compression: str, size: int) -> None:
    """Have a scan of a risky codec read in another process: first, middle and last tiles, and its coarse levels.

    Faults of other kinds are left to whoever reads the scan in this process.

    Raises
    ------
    ScanError
        The codec crashes over it, or does not come to an end.
    """
    if compression not in _RISKY:
        return
    try:
        _decoder.ask({"path": str(path), "pick": list(pick)}, seconds_for(size))
    except GuardedProcessError as error:
        raise ScanError(
            f"{path}: decoding its {compression} {error}: the scan is damaged.",
            to_fix="copy the scan again from its source, or convert it to Deflate",
        ) from error


def require_decodable_labels(path: Path | None) -> None:
    """Do the same with a mask or an annotation, if there is one and it is an image.

    Raises
    ------
    ScanError
        As `require_decodable`.
    """
    if path is None:
        return
    try:
        compression = open_reader(path).compression
    except (ScanError, OSError):
        return  # Contours, or a fault that reading it names.
    require_decodable(path, UNPICKED, compression, path.stat().st_size)
