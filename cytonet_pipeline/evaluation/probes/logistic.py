"""Multinomial logistic regression to its optimum: the features are compared, not an optimiser's luck with them.

Also the protocol of label efficiency: with ten labels an area, epochs of SGD would be too few steps, and the number of
labels would be mixed up with the length of training.
"""

import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from cytonet_pipeline.evaluation.probes.compute import threads_for
from cytonet_pipeline.evaluation.probes.heads import LinearHead, Scaling
from cytonet_pipeline.evaluation.probes.linear import Labelled

_MAX_ITERATIONS = 100
_TOLERANCE = 1e-4


def fit_logistic(
    train: Labelled, choose: Labelled, strengths: Sequence[float], *, max_iterations: int = _MAX_ITERATIONS
) -> tuple[LinearHead, dict[str, object]]:
    """Fit scikit-learn's `LogisticRegression` for each C and keep the best on `choose`.

    Parameters
    ----------
    train : Labelled
        Rows that are fitted and standardised by.
    choose : Labelled
        Rows of other sections; the C with the highest macro F1 on them wins, of equals the smallest.
    strengths : sequence of float
        Candidates of C, the inverse of the penalty. Each fit starts from the one before.

    Returns
    -------
    head : LinearHead
        On raw features.
    record : dict
        `c` chosen, the macro F1 on `choose` by C, and whether every fit converged.
    """
    classes = np.unique(train.areas)
    scaling = Scaling.of(train.features)
    fitted, chosen = scaling.apply(train.features), scaling.apply(choose.features)
    model = LogisticRegression(warm_start=True, max_iter=max_iterations, tol=_TOLERANCE)
    best: tuple[float, float, np.ndarray, np.ndarray] | None = None
    by_c, converged = {}, True
    for strength in sorted(strengths):
        model.set_params(C=strength)
        with warnings.catch_warnings(), threads_for(fitted.size * len(classes)):
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(fitted, train.areas)
        converged &= bool(model.n_iter_.max() < max_iterations)
        predicted = model.predict(chosen)
        f1 = float(f1_score(choose.areas, predicted, average="macro", labels=np.unique(choose.areas), zero_division=0))
        by_c[f"{strength:g}"] = round(f1, 6)
        if best is None or f1 > best[0]:
            best = (f1, strength, *_softmax_form(model))
    if best is None:
        raise ValueError("no candidate of C")
    head = LinearHead.folded(best[2], best[3], classes, scaling)
    return head, {"c": best[1], "macro_f1_by_c": by_c, "converged": converged}


def _softmax_form(model: LogisticRegression) -> tuple[np.ndarray, np.ndarray]:
    """One row a class; scikit-learn keeps a single row for two classes, whose sigmoid is a softmax against zero."""
    weight, bias = model.coef_.copy(), model.intercept_.copy()
    if len(weight) == 1:
        weight, bias = np.vstack([np.zeros_like(weight), weight]), np.concatenate([np.zeros_like(bias), bias])
    return weight, bias
