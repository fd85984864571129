"""Classifiers on the features of an encoder, and how a linear one is stored.

Whatever standardised the features in training is folded into weights and bias, so that a head is applied to features
as the encoder gives them.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy.special import softmax

from cytonet_pipeline.store import atomic_file, unreadable, verified

_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class Labelled:
    """Features with their areas.

    Attributes
    ----------
    features : (N, D) array
        float16 as stored; batches are converted, never the whole.
    areas : (N,) int array
    """

    features: np.ndarray
    areas: np.ndarray

    def __len__(self) -> int:
        return len(self.areas)


class Head(Protocol):
    """A classifier of areas on raw features."""

    @property
    def classes(self) -> np.ndarray:
        """(C,) areas, ascending."""

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the probability of each class, (N, C), for (N, D) features."""


@dataclass(frozen=True)
class LinearHead:
    """Logits = features · weightᵀ + bias; probabilities are their softmax.

    Attributes
    ----------
    weight : (C, D) float32 array
    bias : (C,) float32 array
    classes : (C,) int32 array
        Annotation index of each row of `weight`, ascending.
    """

    weight: np.ndarray
    bias: np.ndarray
    classes: np.ndarray

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the probability of each class.

        Parameters
        ----------
        features : (N, D) array
            As the encoder gives them.

        Returns
        -------
        (N, C) float32 array
        """
        chunks = [features[i : i + _ROWS_AT_ONCE] for i in range(0, len(features), _ROWS_AT_ONCE)]
        logits = [chunk.astype(np.float32, copy=False) @ self.weight.T + self.bias for chunk in chunks]
        if not logits:
            return np.empty((0, len(self.classes)), np.float32)
        return np.concatenate([softmax(part, axis=1) for part in logits]).astype(np.float32)

    @classmethod
    def folded(cls, weight: np.ndarray, bias: np.ndarray, classes: np.ndarray, scaling: "Scaling") -> "LinearHead":
        """Make a head on raw features from one on standardised features."""
        raw = weight.astype(np.float64) / scaling.deviation
        shifted = bias.astype(np.float64) - raw @ scaling.mean
        return cls(raw.astype(np.float32), shifted.astype(np.float32), np.asarray(classes, dtype=np.int32))

    def write(self, path: Path, record: dict[str, object] | None = None) -> None:
        """Write `weight` and `bias` as safetensors; `classes` and a record of the fit go into the metadata."""
        # The key `said` is part of the file format: the file's digest decides whether area maps are stale.
        metadata = {"classes": json.dumps(self.classes.tolist()), "said": json.dumps(record or {}, sort_keys=True)}
        with atomic_file(path) as temporary:
            save_file({"weight": self.weight, "bias": self.bias}, temporary, metadata=metadata)

    @classmethod
    def read(cls, path: Path) -> "LinearHead":
        """Read a head.

        Raises
        ------
        StoreError
            The file is missing or does not hold a head.
        """
        try:
            with safe_open(verified(path), framework="numpy") as stored:
                classes = np.array(json.loads(stored.metadata()["classes"]), dtype=np.int32)
                return cls(stored.get_tensor("weight"), stored.get_tensor("bias"), classes)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise unreadable(path, error, "probe") from error


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation of each feature over training rows; constant features keep a deviation of 1.

    Attributes
    ----------
    mean, deviation : (D,) float64 arrays
    """

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> "Scaling":
        """Measure (N, D) training features, summed in float64, one chunk at a time."""
        chunks = [slice(i, i + _ROWS_AT_ONCE) for i in range(0, len(features), _ROWS_AT_ONCE)]
        mean = sum(features[part].sum(axis=0, dtype=np.float64) for part in chunks) / len(features)
        squares = sum(np.square(features[part] - mean).sum(axis=0) for part in chunks)
        deviation = np.sqrt(squares / len(features))
        # Rounding leaves a constant column of float16 with a deviation near zero instead of zero.
        constant = deviation <= 1e-6 * np.maximum(np.abs(mean), 1e-6)
        return cls(np.asarray(mean), np.where(constant, 1.0, deviation))

    def apply(self, features: np.ndarray) -> np.ndarray:
        """Return standardised features as float32."""
        return ((features - self.mean) / self.deviation).astype(np.float32)
