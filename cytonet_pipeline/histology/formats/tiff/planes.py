"""A level whose three colours lie in pages of their own, as OME-TIFF has them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.formats.levels import Level, Stored
from cytonet_pipeline.histology.formats.tiff.levels import TiffLevel


@dataclass(frozen=True, eq=False)
class ColourPlanes(Level):
    """Levels of one sample each, of the same size and tiles: red, green, blue."""

    parts: tuple[TiffLevel, ...]

    @classmethod
    def of(cls, parts: Sequence[TiffLevel]) -> "ColourPlanes":
        """Join the levels of the colours.

        Raises
        ------
        ScanError
            They differ in size, tiles or kind.
        """
        first = parts[0]
        for part in parts:
            if _shape(part) != _shape(first) or part.page.samplesperpixel != 1:
                raise ScanError(
                    f"{first.path}: the pages of its colours differ in size or kind.", to_fix="export the scan as RGB"
                )
        return cls(first.path, first.factor, *_shape(first), None, tuple(parts))

    def fetch(self, row: int, columns: Sequence[int]) -> Iterator[list[tuple[int, Stored | None]]]:
        """Read chunks of one row, one piece per colour."""
        for column in columns:
            pieces = []
            for part in self.parts:
                (((_, stored),),) = part.fetch(row, [column])
                # What is fetched is valid until the next fetch only.
                pieces.append(None if stored is None else bytes(stored[0]))
            whole = [piece for piece in pieces if piece is not None]
            if whole and len(whole) < len(pieces):
                raise self._damaged(row, column, "has some of its colours only.")
            yield [(column, whole or None)]

    def beyond(self) -> int:
        """Count the chunks that cannot lie where the file says."""
        return sum(part.beyond() for part in self.parts)

    def present(self) -> np.ndarray:
        """Return which chunks the file holds."""
        return np.all([part.present() for part in self.parts], axis=0)

    def _decoded(self, row: int, column: int, stored: Stored) -> np.ndarray:
        parts = zip(self.parts, stored, strict=True)
        return np.concatenate([part.decode(row, column, (piece,)) for part, piece in parts], axis=2)


def _shape(level: TiffLevel) -> tuple[int, int, int, int, np.dtype]:
    return level.height, level.width, level.chunk_height, level.chunk_width, level.dtype
