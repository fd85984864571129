"""Distances of patches in the reference brain, which the contrastive loss turns into weights.

`DISTANCES` lists them under the names that `distance:` takes in an experiments file. A new one is a class here and its
place in the list. One that looks distances up in a table (between vertices of a surface, say) chooses its own
coordinates (the number of the nearest vertex) and reads the table from the encoder's folder.

Importing this module does not import torch, because experiments files are checked where torch is not loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cytonet_pipeline.learning.registry import entry_named
from cytonet_pipeline.store import REFERENCE_MM

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch


class Distance(Protocol):
    """How far apart two patches are."""

    def coordinates_of(self, patches: pd.DataFrame) -> np.ndarray:
        """Return what `between` compares, (N, C), for rows of a table `training_patches`."""
        ...

    def between(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Return the distances (n, N) in mm, in memory of their own, of coordinates (n, C) and (N, C).

        The distance from i to k is that from k to i, and 0 for equal coordinates.
        """
        ...


class Euclidean:
    """Straight through the reference brain."""

    def coordinates_of(self, patches: pd.DataFrame) -> np.ndarray:
        """Return the patch centres (N, 3) in the reference space, RAS in mm."""
        return patches[list(REFERENCE_MM)].to_numpy("float32")

    def between(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Sum squared differences: |a|² + |b|² - 2ab cancels for near neighbours far from the origin."""
        squared = rows.new_zeros(len(rows), len(columns))
        for row_axis, column_axis in zip(rows.T.contiguous(), columns.T.contiguous(), strict=True):
            difference = row_axis[:, None] - column_axis
            squared.addcmul_(difference, difference)
        return squared.sqrt_()


class Mirrored(Euclidean):
    """As `Euclidean`, with |x| for x: left and right homologues attract."""

    def between(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Fold both sides onto the right hemisphere first."""
        return super().between(_right(rows), _right(columns))


# Each makes a distance from the folder of the encoder's version (None outside a training run).
DISTANCES: dict[str, Callable[[Path | None], Distance]] = {
    "euclidean": lambda _: Euclidean(),
    "mirrored": lambda _: Mirrored(),
}


def distance_named(name: str, folder: Path | None = None) -> Distance:
    """Make a distance.

    Parameters
    ----------
    folder : Path, optional
        Folder of the encoder's version, where a distance finds its table if it needs one.

    Raises
    ------
    ConfigurationError
        There is no distance of that name; the message lists the known ones.
    """
    return entry_named(name, DISTANCES, "distance")(folder)


def _right(positions_mm: torch.Tensor) -> torch.Tensor:
    folded = positions_mm.clone()
    folded[:, 0].abs_()
    return folded
