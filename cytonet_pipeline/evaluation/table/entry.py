"""What is compared in the table of results: the predictions, or what was retrieved, of one encoder by one protocol."""

from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd


class Resampling(NamedTuple):
    """How intervals are made: the gap (mm) that blocks of sections are cut by, the number of resamplings, the seed."""

    gap_mm: float
    n: int
    seed: int


@dataclass(frozen=True, eq=False)
class Entry:
    """Measured patches of one encoder and protocol, both splits.

    Attributes
    ----------
    encoder, method, protocol : str
    dataset, held_out : str
        What was learned from: encoders with another unseen brain saw other sections.
    labels_per_area, draw : int
        Labels that were given; 0: all.
    classes : tuple of int
        Areas that the classifier knows; empty for retrieval.
    rows : DataFrame
        A row per patch: `patch_id`, `split`, `brain`, `sample`, `position_mm`, and what is measured.
    """

    encoder: str
    method: str
    protocol: str
    dataset: str
    held_out: str
    labels_per_area: int
    draw: int
    classes: tuple[int, ...]
    rows: pd.DataFrame

    @property
    def key(self) -> tuple[str, str, int, int]:
        """Encoder, protocol, labels and draw: with the split, the row of the table."""
        return self.encoder, self.protocol, self.labels_per_area, self.draw

    @property
    def budget(self) -> tuple[str, str, int, int]:
        """Two entries may be compared only if they learned from the same data and as many labels."""
        return self.dataset, self.held_out, self.labels_per_area, self.draw

    @property
    def title(self) -> str:
        """Name in messages."""
        return f"{self.encoder} ({self.protocol})"
