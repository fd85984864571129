"""Point transforms between the spaces of a brain (scan plane, brain, reference): the base class, affines, chains.

Everything here maps points in millimetres, RAS (scan plane: x right, y down), float64. ITK's LPS stays inside
`itk.py`; images are never resampled here. A transform is immutable; NaN in gives NaN out.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from cytonet_pipeline.errors import TransformError
from cytonet_pipeline.store import digest_of

# This many points fit into the caches with the intermediate arrays; memory does not grow with the number of points.
_CHUNK_POINTS = 1 << 16
# map_coordinates releases the GIL: a second thread helps, more compete for memory bandwidth.
_THREADS = 2
_Part = TypeVar("_Part")


class PointTransform(ABC):
    """A map from points to points; `dimension` is 3, or 2 for warps of the scan plane.

    `notes` is what a user should know of the files that it was read from; it is no part of the digest.
    """

    dimension: int
    notes: tuple[str, ...] = ()

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        """Map points.

        Parameters
        ----------
        points_mm : (N, dimension) array
            Positions in the source space (mm; RAS in three dimensions).

        Returns
        -------
        (N, dimension) float64 array
            Positions in the target space (mm). NaN where a coordinate was NaN, or where there is no image.
        """
        points = np.asarray(points_mm)
        if points.ndim != 2 or points.shape[1] != self.dimension:
            raise ValueError(f"expected points of shape (N, {self.dimension}), got {points.shape}")
        mapped = np.empty(points.shape, dtype=np.float64)
        self._map_into(mapped, points)
        return mapped

    def _map_into(self, mapped: np.ndarray, points: np.ndarray) -> None:
        """Map all points of a call, (N, dimension) of any type of numbers, into an array that may be theirs."""

        def _map_chunk(chunk: slice) -> None:
            # Other types become float64 here, chunk by chunk: a copy of all points would grow with their number.
            mapped[chunk] = self._map(np.asarray(points[chunk], dtype=np.float64))

        in_threads(_map_chunk, chunks_of(len(points)))

    @abstractmethod
    def _map(self, points: np.ndarray) -> np.ndarray:
        """Map one chunk of points."""

    @abstractmethod
    def inverse(self) -> "PointTransform":
        """Return the map back: exact for affines, numerical for fields (`fields.FieldInverse`)."""

    @property
    def undefined(self) -> str:
        """Why this maps no point at all, with figures: the inverse of a field that is none. '' for all others."""
        return ""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Describe the transform for records: small, with digests in place of fields."""

    @property
    def digest(self) -> str:
        """Digest of what the transform does, whatever file it came from."""
        return digest_of(self.to_json())


def chunks_of(n: int) -> list[slice]:
    """Return the chunks in which n points are mapped."""
    return [slice(start, start + _CHUNK_POINTS) for start in range(0, n, _CHUNK_POINTS)]


def in_threads(work: Callable[[_Part], None], parts: Sequence[_Part]) -> None:
    """Do some work on each part, in several threads where that pays."""
    if len(parts) < 4:
        for part in parts:
            work(part)
        return
    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(work, parts))


class Affine(PointTransform):
    """A linear map with a shift.

    Parameters
    ----------
    matrix : (4, 4) or (3, 3) array
        Homogeneous matrix; its size tells whether it acts in space or in the plane.

    Raises
    ------
    TransformError
        The matrix is singular or holds values that are not finite.
    """

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix = np.array(matrix, dtype=np.float64)
        if self.matrix.shape not in {(4, 4), (3, 3)}:
            raise ValueError(f"expected a 4 × 4 or 3 × 3 matrix, got {self.matrix.shape}")
        self.dimension = len(self.matrix) - 1
        linear = self.matrix[:-1, :-1]
        if not np.isfinite(self.matrix).all() or np.linalg.cond(linear) > 1e10:
            rows = np.array2string(linear, precision=6, separator=", ").replace("\n", "")
            raise TransformError(
                f"the matrix {rows} is singular: it flattens space and has no inverse.",
                to_fix="write the transform again from the registration",
            )

    def _map(self, points: np.ndarray) -> np.ndarray:
        return points @ self.matrix[:-1, :-1].T + self.matrix[:-1, -1]

    def inverse(self) -> "Affine":
        """Return the exact inverse."""
        return Affine(np.linalg.inv(self.matrix))

    def to_json(self) -> dict[str, Any]:
        """Describe the transform by its matrix."""
        return {"kind": "affine", "matrix": self.matrix.tolist()}


class Chain(PointTransform):
    """Transforms applied one after the other, the first of the list first.

    Parameters
    ----------
    members : sequence of PointTransform
    names : sequence of str, optional
        Names of the members in messages, such as those of their files.
    """

    def __init__(self, members: Sequence[PointTransform], names: Sequence[str] = ()) -> None:
        self.members = tuple(members)
        self.names = tuple(names)
        dimensions = {member.dimension for member in self.members}
        if len(dimensions) != 1:
            raise TransformError(
                f"a chain of transforms in {sorted(dimensions)} dimensions cannot be applied.",
                to_fix="name transforms of one space only, at least one",
            )
        self.dimension = dimensions.pop()
        self.notes = tuple(dict.fromkeys(note for member in self.members for note in member.notes))

    def _map_into(self, mapped: np.ndarray, points: np.ndarray) -> None:
        # Member by member, and not chunk by chunk: an inverse shares out its effort among all points of a call.
        for member in self.members:
            member._map_into(mapped, points)
            points = mapped

    def _map(self, points: np.ndarray) -> np.ndarray:
        return self(points)

    @property
    def undefined(self) -> str:
        """See `PointTransform.undefined`."""
        return next((member.undefined for member in self.members if member.undefined), "")

    def inverse(self) -> "Chain":
        """Return the chain of the inverted members in reverse order."""
        return Chain([member.inverse() for member in reversed(self.members)])

    def to_json(self) -> dict[str, Any]:
        """Describe the members, the first applied first."""
        return {"kind": "chain", "members": [member.to_json() for member in self.members]}
