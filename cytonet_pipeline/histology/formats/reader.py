"""What every format of scans has to offer: `Reader`. A new format is a module beside this one, see `registry`."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Self

from cytonet_pipeline.dataset import UNPICKED, Pick
from cytonet_pipeline.histology.formats.files import FileState, forget_file
from cytonet_pipeline.histology.formats.levels import Level


class Samples(NamedTuple):
    """What a scan stores per pixel: grey values or the three colours first, of so many bits; white may be 0.

    `alpha` is how the last sample tells opacity: colours are stored multiplied by it (`associated`) or not.
    """

    colour: bool
    bits: int
    white_is_zero: bool = False
    alpha: Literal["", "associated", "unassociated"] = ""


@dataclass(frozen=True, eq=False)
class Reader(ABC):
    """A scan of one format, opened without reading a pixel.

    Attributes
    ----------
    format : str
        Its key in `dataset.SCAN_FORMATS`.
    state : FileState
        The scan as it was opened, by path, size and time of change.
    levels : sequence of Level
        The pyramid, the full resolution first.
    file_pixel_um : (float, float) or None
        Width and height of a full-resolution pixel as the file itself gives them (µm).
    doubts : tuple of str
        What was decided although the file leaves it open: sentences without the file's name, for a person to check.
    reading : tuple of str
        What is read otherwise than releases up to 0.2.1 read it, or refused since: part of the digest.
    size_remark : str
        What the file says about its pixel size and cannot be understood; empty if there is nothing of the kind.
    size_doubt : str
        Why `file_pixel_um` may be a placeholder; empty if it is none.
    """

    format: ClassVar[str]
    state: FileState
    levels: Sequence[Level]
    file_pixel_um: tuple[float, float] | None
    doubts: tuple[str, ...] = field(default=(), kw_only=True)
    reading: tuple[str, ...] = field(default=(), kw_only=True)
    size_remark: str = field(default="", kw_only=True)
    size_doubt: str = field(default="", kw_only=True)

    @classmethod
    @abstractmethod
    def recognises(cls, path: Path, head: bytes) -> bool:
        """Whether the content is of this format, whatever the name says.

        Parameters
        ----------
        head : bytes
            The first 16 bytes; none of a folder.
        """

    @classmethod
    @abstractmethod
    def open(cls, path: Path, pick: Pick = UNPICKED) -> Self:
        """Read the header of a scan.

        Parameters
        ----------
        pick : Pick
            Which image of a file that holds several; default: the only one that can be the scan.

        Raises
        ------
        ScanError
            The scan is missing, of another format, announces what it cannot hold, or leaves open which image it is.
        """

    @property
    def path(self) -> Path:
        """The file or folder."""
        return self.state.path

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return self.state.size

    @property
    @abstractmethod
    def compression(self) -> str:
        """Compression of the full resolution, in words."""

    @abstractmethod
    def samples(self) -> Samples:
        """Describe how grey values are made of what is stored.

        Raises
        ------
        ScanError
            Such samples are not read.
        """

    @abstractmethod
    def digest(self) -> str:
        """Return the digest that tells this scan from another one; see `registry.scan_digest`."""

    @abstractmethod
    def require_labels(self) -> None:
        """Check that pixels are whole numbers, stored without loss, so that they can be labels.

        Raises
        ------
        ScanError
            They are not.
        """

    def label_level(self) -> Level:
        """Return the level whose pixels are the numbers of a label image.

        Raises
        ------
        ScanError
            Its pixels are no whole numbers, or not stored without loss.
        """
        self.require_labels()
        return self.levels[0]

    def mask_level(self) -> Level:
        """Return the level whose pixels are the numbers of a mask.

        Raises
        ------
        ScanError
            Its pixels are no whole numbers.
        """
        return self.label_level()

    def pixel_size_conflict(self, tolerance: float) -> str:
        """Describe pixel sizes in the file that differ by more than `tolerance` (a share); empty if none do."""
        return ""

    def close(self) -> None:
        """Close the file. Reading again opens it again."""
        forget_file(self.state)
