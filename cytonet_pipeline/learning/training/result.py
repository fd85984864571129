"""How a training ended: its figures, its best state, and what to say about it."""

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

# Told while it runs and in the end, in this order.
_SHOWN = (
    "loss", "learning_rate", "samples_per_second", "data_wait_share", "gradient_norm", "knn_accuracy", "accuracy",
    "effective_rank", "mean_cosine", "same_brain_excess", "effective_positives", "alignment", "uniformity",
)  # fmt: skip


@dataclass
class Best:
    """The state with the highest k-NN accuracy on validation sections; of equal ones the first.

    Attributes
    ----------
    step : int or None
        None where nothing is annotated.
    """

    step: int | None = None
    knn_accuracy: float | None = None

    def take(self, step: int, knn_accuracy: float | None) -> bool:
        """Take a state if it is better; whether it was."""
        if knn_accuracy is None or (self.knn_accuracy is not None and knn_accuracy <= self.knn_accuracy):
            return False
        self.step, self.knn_accuracy = step, knn_accuracy
        return True

    def as_json(self) -> dict[str, Any]:
        """For a checkpoint: the arguments that make it again."""
        return {"step": self.step, "knn_accuracy": self.knn_accuracy}


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes
    ----------
    finished : bool
        All steps are done; otherwise a checkpoint waits to be continued.
    figures : dict
        What people want to know of it.
    runs : list of dict
        The processes that it was done in, see `provenance.this_run`.
    problems, warnings : tuple of str
        Why not to trust it (collapse); what to look at.
    """

    finished: bool
    encoder: Encoder
    objective: Objective
    figures: dict[str, Any]
    best: Best
    runs: list[dict[str, Any]]
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def shown_of(row: dict[str, Any]) -> dict[str, float]:
    """What is told of a row of the history."""
    known = {name: row.get(name) for name in _SHOWN}
    # Four digits whatever the size: a learning rate is not to become 0.
    return {name: float(f"{value:.4g}") for name, value in known.items() if value is not None and math.isfinite(value)}


def readable(row: dict[str, Any]) -> str:
    """The same as one line of a log."""
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in shown_of(row).items())


def warnings_of(
    block: EncoderBlock, model: nn.Module, pieces: int, history: pd.DataFrame, runs: Sequence[dict[str, Any]]
) -> list[str]:
    """What to look at: too few or too many positives, poor batch statistics, another machine halfway."""
    warnings = _of_positives(block.batch_size, history)
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


def _of_positives(batch_size: int, history: pd.DataFrame) -> list[str]:
    positives = history["effective_positives"].median()
    if positives < 2:
        return [f"only {positives:.1f} effective positives a sample: raise loss.length_mm or batch_size"]
    if positives > 0.1 * batch_size:
        return [f"{positives:.0f} effective positives a sample, over 10 % of the batch: lower loss.length_mm"]
    return []


def _has_batch_norm(model: nn.Module) -> bool:
    return any(isinstance(layer, _BatchNorm) for layer in model.modules())
