"""How far apart two files of weights are."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class WeightsDifference:
    """What differs between the tensors of two files of weights.

    Attributes
    ----------
    name : str
        Name of the file.
    tensors, identical : int
        Tensors that both have, and how many of them are equal bit for bit.
    only_in_one : tuple of str
        Tensors that one file lacks, or that have another shape or type.
    largest : float
        Largest absolute difference of two numbers; NaN if one of them is none.
    relative : float
        Norm of all differences over the norm of the stored weights.
    worst : str
        Tensor with the largest difference.
    """

    name: str
    tensors: int
    identical: int
    only_in_one: tuple[str, ...] = ()
    largest: float = 0.0
    relative: float = 0.0
    worst: str = ""

    @property
    def agrees(self) -> bool:
        """Whether all tensors are there and equal bit for bit."""
        return not self.only_in_one and self.identical == self.tensors

    @property
    def text(self) -> str:
        """One sentence for people."""
        if self.agrees:
            return f"{self.name}: all {self.tensors} tensors agree bit for bit"
        parts = [f"{self.name}: {self.identical} of {self.tensors} tensors agree bit for bit"]
        if self.worst:
            parts.append(f"the largest difference is {self.largest:.3g} (in {self.worst})")
            parts.append(f"the weights are {self.relative:.2%} apart, by their norm")
        if self.only_in_one:
            parts.append(f"in one of them only, or of another shape: {', '.join(self.only_in_one[:3])}")
        return "; ".join(parts)


def compare_weights(stored: Path, again: Path) -> WeightsDifference:
    """Compare two safetensors files, tensor by tensor."""
    from safetensors.numpy import load_file

    one, other = load_file(stored), load_file(again)
    both = sorted(name for name in one.keys() & other.keys() if _alike(one[name], other[name]))
    apart = {name: np.abs(one[name].astype(np.float64) - other[name].astype(np.float64)) for name in both}
    # Bits, and not values: 0 and -0 are equal numbers.
    identical = sum(one[name].tobytes() == other[name].tobytes() for name in both)
    largest = {name: float(values.max(initial=0.0)) for name, values in apart.items()}
    worst = max(largest, key=lambda name: largest[name] if largest[name] == largest[name] else np.inf, default="")
    norm = np.sqrt(sum(float(np.sum(one[name].astype(np.float64) ** 2)) for name in both))
    differing = np.sqrt(sum(float(np.sum(values**2)) for values in apart.values()))
    return WeightsDifference(
        name=stored.name,
        tensors=len(both),
        identical=identical,
        only_in_one=tuple(sorted((one.keys() | other.keys()) - set(both))),
        largest=largest.get(worst, 0.0),
        relative=float(differing / norm) if norm else 0.0,
        worst=worst if identical < len(both) else "",
    )


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype
