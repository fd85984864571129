"""What every format of scans has to offer: `Reader`. A new format is a module beside this one, see `registry`."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

from cytonet_pipeline.histology.formats.files import FileState, forget_file
from cytonet_pipeline.histology.formats.levels import Level


class Samples(NamedTuple):
    """What a scan stores per pixel: grey values or the three colours first, of so many bits; white may be 0."""

    colour: bool
    bits: int
    white_is_zero: bool = False


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
    """

    format: ClassVar[str]
    state: FileState
    levels: Sequence[Level]
    file_pixel_um: tuple[float, float] | None

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
    def open(cls, path: Path) -> Self:
        """Read the header of a scan.

        Raises
        ------
        ScanError
            The scan is missing, of another format, or announces what it cannot hold.
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
