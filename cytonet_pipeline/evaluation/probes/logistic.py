"""Multinomial logistic regression, fitted to its optimum: features are compared, not the luck of an optimiser.

It is also the protocol for label efficiency: with ten labels per area, epochs of SGD would be too few steps, and the
number of labels would be confounded with the length of training.
"""

import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from cytonet_pipeline.evaluation.metrics.scoring import macro_f1
from cytonet_pipeline.evaluation.probes.heads import Labelled, LinearHead, Scaling
from cytonet_pipeline.evaluation.probes.threads import threads_for

_MAX_ITERATIONS = 100
_TOLERANCE = 1e-4


def fit_logistic(
    train: Labelled, validation: Labelled, strengths: Sequence[float], *, max_iterations: int = _MAX_ITERATIONS
) -> tuple[LinearHead, dict[str, object]]:
    """Fit scikit-learn's `LogisticRegression` for each C and keep the best on the validation rows.

    Parameters
    ----------
    train : Labelled
        Rows to fit; their mean and deviation standardise all features.
    validation : Labelled
        Rows of other sections; the C with the highest macro F1 on them wins, the smallest in case of a tie.
    strengths : sequence of float
        Candidates for C, the inverse of the penalty. Each fit starts from the one before.

    Returns
    -------
    head : LinearHead
        On raw features.
    record : dict
        The `c` chosen, the macro F1 on the validation rows by C, and whether every fit converged.
    """
    classes = np.unique(train.areas)
    scaling = Scaling.of(train.features)
    fitted, held_back = scaling.apply(train.features), scaling.apply(validation.features)
    model = LogisticRegression(warm_start=True, max_iter=max_iterations, tol=_TOLERANCE)
    best: tuple[float, float, np.ndarray, np.ndarray] | None = None
    by_c, converged = {}, True
    for strength in sorted(strengths):
        model.set_params(C=strength)
        with warnings.catch_warnings(), threads_for(fitted.size * len(classes)):
            warnings.simplefilter("ignore", ConvergenceWarning)
            # With one label per area there are as many classes as samples, which is meant.
            warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
            model.fit(fitted, train.areas)
        converged &= bool(model.n_iter_.max() < max_iterations)
        f1 = macro_f1(validation.areas, model.predict(held_back))
        by_c[f"{strength:g}"] = round(f1, 6)
        if best is None or f1 > best[0]:
            best = (f1, strength, *_softmax_form(model))
    if best is None:
        raise ValueError("no candidate for C")
    head = LinearHead.folded(best[2], best[3], classes, scaling)
    return head, {"c": best[1], "macro_f1_by_c": by_c, "converged": converged}


def _softmax_form(model: LogisticRegression) -> tuple[np.ndarray, np.ndarray]:
    """Return weights and biases with one row per class.

    For two classes scikit-learn keeps a single row, whose sigmoid is a softmax against zero.
    """
    weight, bias = model.coef_.copy(), model.intercept_.copy()
    if len(weight) == 1:
        weight, bias = np.vstack([np.zeros_like(weight), weight]), np.concatenate([np.zeros_like(bias), bias])
    return weight, bias
