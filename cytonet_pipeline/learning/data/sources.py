"""Where a training run gets its pixels from: any `PatchSource`, such as the scans themselves (`SectionPatches`)."""

from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd

from cytonet_pipeline.learning.data.scans import SectionScans
from cytonet_pipeline.learning.folder import EncoderFolder


class PatchSource(Protocol):
    """The patches of a training set, by row of its `patches.parquet`."""

    edge_px: int

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Read patches (len(rows), edge_px, edge_px), uint8, with the margin that augmentation needs."""
        ...


class Part(NamedTuple):
    """Some patches of one section: their rows in the training set, and the place of the first in a buffer."""

    section: int
    rows: np.ndarray
    first: int


class SectionPatches:
    """The patches of a training set straight from the scans, section by section.

    Parameters
    ----------
    folder : EncoderFolder
        Of the encoder that is trained.
    data : Path
        The data set.
    edge_px : int
        Edge of the patches.
    """

    def __init__(self, folder: EncoderFolder, data: Path, edge_px: int) -> None:
        patches = folder.patches
        self.edge_px, self._pixel_um = edge_px, folder.block.working_pixel_um
        self._scans = SectionScans(data, folder.sections)
        self.section_of, self._names = sections_of(patches)
        self._centres = patches[["x_px", "y_px"]].to_numpy()

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Read patches (len(rows), edge_px, edge_px), uint8, of rows of the training set."""
        out = np.empty((len(rows), self.edge_px, self.edge_px), dtype=np.uint8)
        order = np.argsort(self.section_of[rows], kind="stable")
        ordered = np.empty_like(out)
        for part in self.parts(rows[order]):
            self.read_part(part, ordered)
        out[order] = ordered
        return out

    def parts(self, rows: np.ndarray, at_most: int | None = None) -> list[Part]:
        """Split rows into runs of one section and of `at_most` rows; rows of a section should be adjacent."""
        sections = self.section_of[rows]
        starts = np.flatnonzero(np.diff(sections, prepend=-1))
        if at_most is not None:
            starts = np.union1d(starts, np.arange(0, len(rows), at_most))
        ends = np.append(starts[1:], len(rows))
        return [Part(int(sections[a]), rows[a:b], int(a)) for a, b in zip(starts, ends, strict=True)]

    def read_part(self, part: Part, out: np.ndarray) -> int:
        """Read the patches of a part into their place in `out` and return their number; thread-safe."""
        with self._scans(*self._names[part.section]) as scan:
            place = out[part.first : part.first + len(part.rows)]
            scan.read_patches(self._centres[part.rows], self.edge_px, self._pixel_um, out=place)
        return len(part.rows)


def sections_of(patches: pd.DataFrame) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """Return each row's section (N,) int64, numbered in the order of brain and sample, and the sections' names."""
    brains, brain_names = pd.factorize(patches["brain"], sort=True)
    samples, sample_names = pd.factorize(patches["sample"], sort=True)
    codes, numbers = np.unique(brains.astype(np.int64) * len(sample_names) + samples, return_inverse=True)
    names = [(str(brain_names[c // len(sample_names)]), str(sample_names[c % len(sample_names)])) for c in codes]
    return numbers.astype(np.int64), names
