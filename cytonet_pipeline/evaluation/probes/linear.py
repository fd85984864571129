"""The linear probe: E30, E500 and the like.

The poster names 30 and 500 epochs of linear fine-tuning on 1,200 samples per area; optimiser and rates are our choice:
SGD with momentum 0.9 and a cosine schedule to zero, no weight decay, batches of 1,024, the rate chosen on validation
sections. All candidate rates are trained side by side, as heads that see the same batches in one pass.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cytonet_pipeline.evaluation.metrics.scoring import macro_f1
from cytonet_pipeline.evaluation.probes.heads import Labelled, LinearHead, Scaling
from cytonet_pipeline.evaluation.probes.threads import threads_for
from cytonet_pipeline.learning.device import compute_device
from cytonet_pipeline.progress import task

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Schedule:
    """Schedule of training the heads of a linear probe.

    Attributes
    ----------
    learning_rates : sequence of float
        Candidates for a batch of 256; they are scaled in proportion to the batch size.
    """

    epochs: int
    learning_rates: Sequence[float]
    batch_size: int = 1024
    momentum: float = 0.9
    seed: int = 0


def fit_linear(train: Labelled, validation: Labelled, schedule: Schedule) -> tuple[LinearHead, dict[str, object]]:
    """Train one head per learning rate in one pass and keep the best on the validation rows.

    Parameters
    ----------
    train : Labelled
        Rows to train on; their mean and deviation standardise all features.
    validation : Labelled
        Rows of other sections; the rate with the highest macro F1 on them wins, the smallest in case of a tie.

    Returns
    -------
    head : LinearHead
        On raw features.
    record : dict
        The `learning_rate` chosen, and the macro F1 on the validation rows by rate.
    """
    classes, targets = np.unique(train.areas, return_inverse=True)
    scaling = Scaling.of(train.features)
    rates = list(schedule.learning_rates)
    width = train.features.shape[1]
    with threads_for(min(schedule.batch_size, len(train)) * width * len(classes) * len(rates)):
        weights, biases = _train_heads(train.features, targets, len(classes), scaling, schedule)
    heads = [LinearHead.folded(w, b, classes, scaling) for w, b in zip(weights, biases, strict=True)]
    f1 = [_validation_f1(head, validation) for head in heads]
    best = min(range(len(rates)), key=lambda i: (-f1[i], rates[i]))
    if best == int(np.argmax(rates)) and len(rates) > 1:
        _log.info(
            "linear probe: the largest learning rate (%g) was best; a larger one may be better still", rates[best]
        )
    by_rate = {f"{rate:g}": round(value, 6) for rate, value in zip(rates, f1, strict=True)}
    return heads[best], {"learning_rate": rates[best], "macro_f1_by_rate": by_rate}


def _train_heads(
    features: np.ndarray, targets: np.ndarray, n_classes: int, scaling: Scaling, schedule: Schedule
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (H, C, D) and biases (H, C) on standardised features, for H candidate rates.

    The problem is convex: heads start at zero, so that the seed decides the order of rows and nothing else. The
    gradient of the cross-entropy is written out, because one matrix product then serves all heads.
    """
    device = compute_device()
    batch_size = min(schedule.batch_size, len(features))
    steps_per_epoch = len(features) // batch_size
    steps = steps_per_epoch * schedule.epochs
    rates = torch.tensor(schedule.learning_rates, device=device).view(-1, 1, 1) * batch_size / 256
    n_heads, width = len(rates), features.shape[1]
    rows, labels = torch.from_numpy(features).to(device), torch.from_numpy(targets).to(device)
    mean, deviation = (torch.tensor(a, device=device, dtype=torch.float32) for a in (scaling.mean, scaling.deviation))
    # The bias is a last column of ones: one product and one velocity for both.
    heads = torch.zeros(n_heads, n_classes, width + 1, device=device)
    velocity = torch.zeros_like(heads)
    random = np.random.Generator(np.random.Philox(schedule.seed))
    with task(f"linear probe, {schedule.epochs} epochs", total=schedule.epochs) as progress, torch.no_grad():
        for step in range(steps):
            if step % steps_per_epoch == 0:
                order = torch.from_numpy(random.permutation(len(features))).to(device)
                progress.to(step / steps_per_epoch)
            start = step % steps_per_epoch * batch_size
            chosen = order[start : start + batch_size]
            batch = torch.nn.functional.pad((rows[chosen].float() - mean) / deviation, (0, 1), value=1.0)  # (B, D+1)
            velocity = schedule.momentum * velocity + _gradient(heads, batch, labels[chosen])
            heads -= rates * (0.5 * (1 + np.cos(np.pi * step / steps))) * velocity
    trained = heads.cpu().numpy()
    return trained[..., :-1], trained[..., -1]


def _gradient(heads: torch.Tensor, batch: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the gradient (H, C, D+1) of the mean cross-entropy of a batch (B, D+1)."""
    n_heads, n_classes, width = heads.shape
    logits = (batch @ heads.view(-1, width).T).view(len(batch), n_heads, n_classes)
    residual = torch.softmax(logits, dim=-1)
    residual[torch.arange(len(batch), device=batch.device), :, labels] -= 1
    return (residual.view(len(batch), -1).T @ batch).view_as(heads) / len(batch)


def _validation_f1(head: LinearHead, validation: Labelled) -> float:
    """Return the macro F1 on validation rows; −1 for a head that has diverged."""
    if not np.isfinite(head.weight).all():
        return -1.0
    predicted = head.classes[head.probabilities(validation.features).argmax(axis=1)]
    return macro_f1(validation.areas, predicted)
