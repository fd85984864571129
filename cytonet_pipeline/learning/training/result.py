"""The result of a training run: its figures, its best state, and warnings about it."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cytonet_pipeline.learning.backbones.encoders import Encoder
from cytonet_pipeline.learning.losses.objectives import Objective
from cytonet_pipeline.learning.training.chunking import ENOUGH_FOR_BATCH_NORM
from cytonet_pipeline.learning.training.provenance import changes_between
from cytonet_pipeline.settings import EncoderBlock

# Reported during the run and at its end, in this order.
_HEADLINE = (
    "loss", "learning_rate", "samples_per_second", "data_wait_share", "gradient_norm", "knn_accuracy", "accuracy",
    "effective_rank", "mean_cosine", "same_brain_excess", "effective_positives", "alignment", "uniformity",
)  # fmt: skip


@dataclass
class BestState:
    """The state with the highest k-NN accuracy on validation sections, the first of equal ones.

    Attributes
    ----------
    step : int or None
        None if no validation section is annotated.
    """

    step: int | None = None
    knn_accuracy: float | None = None

    def update(self, step: int, knn_accuracy: float | None) -> bool:
        """Remember a state if it is better than the one before; return whether it is."""
        if knn_accuracy is None or (self.knn_accuracy is not None and knn_accuracy <= self.knn_accuracy):
            return False
        self.step, self.knn_accuracy = step, knn_accuracy
        return True

    def as_json(self) -> dict[str, Any]:
        """Return the constructor's arguments as JSON values, for a checkpoint."""
        return {"step": self.step, "knn_accuracy": self.knn_accuracy}


@dataclass(frozen=True)
class TrainingResult:
    """How a training run ended.

    Attributes
    ----------
    finished : bool
        All steps are done; otherwise there is a checkpoint to continue from.
    figures : dict
        Headline figures for people.
    runs : list of dict
        The processes that it ran in, see `provenance.this_process`.
    problems, warnings : tuple of str
        Why not to trust it (collapse), and what to look at.
    """

    finished: bool
    encoder: Encoder
    objective: Objective
    figures: dict[str, Any]
    best: BestState
    runs: list[dict[str, Any]]
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def headline_figures(row: dict[str, Any]) -> dict[str, float]:
    """Return the figures of a row of the history that are reported."""
    values = {name: row.get(name) for name in _HEADLINE}
    # Four significant digits: a small learning rate must not become 0.
    return {name: float(f"{value:.4g}") for name, value in values.items() if value is not None and math.isfinite(value)}


def log_line(row: dict[str, Any]) -> str:
    """Format the reported figures of a row as one line of a log."""
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in headline_figures(row).items())


def warnings_of(
    block: EncoderBlock, model: nn.Module, pieces: int, history: pd.DataFrame, runs: Sequence[dict[str, Any]]
) -> list[str]:
    """Warn of too few or too many positives, poor batch statistics, and a change of machine in between."""
    warnings = _positives_warning(block.batch_size, history)
    piece = block.batch_size // pieces
    if pieces > 1 and piece < ENOUGH_FOR_BATCH_NORM and _has_batch_norm(model):
        warnings.append(
            f"batch normalisation sees {piece} samples (chunk_size × ranks), fewer than {ENOUGH_FOR_BATCH_NORM}: "
            "the gradient is that of these pieces, not of the batch"
        )
    for before, after in itertools.pairwise(runs):
        if changed := changes_between([before], after):
            warnings.append(f"after step {after['after_step']}: {changed}")
    return warnings


def _positives_warning(batch_size: int, history: pd.DataFrame) -> list[str]:
    positives = history["effective_positives"].median()
    if positives < 2:
        return [f"only {positives:.1f} effective positives per sample: raise loss.length_mm or batch_size"]
    if positives > 0.1 * batch_size:
        return [f"{positives:.0f} effective positives per sample, over 10 % of the batch: lower loss.length_mm"]
    return []


def _has_batch_norm(model: nn.Module) -> bool:
    return any(isinstance(layer, _BatchNorm) for layer in model.modules())
