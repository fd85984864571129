"""Randomness of the phantom: named streams and smooth random fields.

Everything random asks for a stream by name, so that one brain or section does not change when another is added, and the
same seed gives the same bytes in every run.
"""

import hashlib
from dataclasses import dataclass

import numpy as np


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return the generator that belongs to these names."""
    digest = hashlib.sha256("/".join(str(part) for part in (seed, *names)).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


@dataclass(frozen=True)
class SmoothField:
    """A sum of plane waves in random directions: smooth, not on a grid, with zero mean.

    Attributes
    ----------
    waves : (K, 3) array
        Wave vectors, radians per mm.
    phases : (K,) array
        Phase of each wave, radians.
    weights : (K, C) array
        Amplitude of each wave in each component.
    """

    waves: np.ndarray
    phases: np.ndarray
    weights: np.ndarray

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        *,
        rms: float,
        wavelength_mm: tuple[float, float],
        components: int = 1,
        n_waves: int = 24,
    ) -> "SmoothField":
        """Draw a field whose components each have the root mean square `rms`; lengths uniform in the range."""
        directions = rng.normal(size=(n_waves, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        lengths_mm = rng.uniform(*wavelength_mm, size=(n_waves, 1))
        weights = rng.normal(size=(n_waves, components))
        weights *= rms * np.sqrt(2.0) / np.linalg.norm(weights, axis=0)
        return cls(directions * 2 * np.pi / lengths_mm, rng.uniform(0, 2 * np.pi, n_waves), weights)

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        """Return the values (N, C) at points (N, 3)."""
        return np.cos(points_mm @ self.waves.T + self.phases) @ self.weights
