"""Scores with few labels per area: which rows belong together, and who is compared with whom.

A method that learns without labels is trained once and probed with n labels; a supervised one is trained on those n.
Encoders that differ only in their labels therefore share a row. What an encoder that saw all labels gives to a probe of
n says nothing of what n labels are worth: it stands under a protocol of its own and is compared with nobody.
"""

from itertools import combinations

import numpy as np
import pandas as pd

from cytonet_pipeline.evaluation.table.text_cells import SPLITS
from cytonet_pipeline.scores import without_retrieval
from cytonet_pipeline.settings import SUPERVISED, row_name

# The protocol of probes with few labels on an encoder that was trained on all of them.
ALL_LABEL_ENCODER = "probe_of_all_label_encoder"
COLUMNS = (
    "labels_per_area", "split", "row_a", "protocol_a", "row_b", "protocol_b", "draws", "macro_f1_a", "macro_f1_b",
    "difference", "difference_deviation", "draws_with_a_higher", "draws_tested", "draws_a_better", "draws_b_better",
)  # fmt: skip
# A draw counts as better if its p, corrected by Holm's method, is below this.
SIGNIFICANT = 0.05


def with_protocols_of_few_labels(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return table `metrics` in which probes with few labels of encoders that saw all are called so."""
    few = metrics["labels_per_area"] > 0
    saw_all = metrics["encoder"].isin(_trained_on_all(metrics)) & metrics["method"].isin(SUPERVISED)
    return metrics.assign(protocol=metrics["protocol"].mask(few & saw_all, ALL_LABEL_ENCODER))


def row_names(metrics: pd.DataFrame) -> pd.Series:
    """Return for each row of table `metrics` the name that encoders of other label counts and draws share with it."""
    trained_on_all = _trained_on_all(metrics)
    names = [
        row_name(encoder, 0 if encoder in trained_on_all else labels, draw) if method in SUPERVISED else encoder
        for encoder, method, labels, draw in zip(
            metrics["encoder"], metrics["method"], metrics["labels_per_area"], metrics["draw"], strict=True
        )
    ]
    return pd.Series(names, index=metrics.index, dtype=object)


def label_rows(metrics: pd.DataFrame, score: str = "macro_f1", title: str = "macro F1") -> pd.DataFrame:
    """Return a row per name and protocol that was run with few labels, and a column per split and number, as text.

    Parameters
    ----------
    score : str
        Column of table `metrics`, called `title` here. Rows without any value of it are left out.
    """
    metrics = metrics[metrics[score].notna()]
    metrics = metrics.assign(row=row_names(metrics))
    few = metrics[metrics["labels_per_area"] > 0]
    with_all = metrics[(metrics["labels_per_area"] == 0) & metrics["protocol"].isin(few["protocol"])]
    shown = pd.concat([few, with_all])
    counts = sorted(shown["labels_per_area"].unique(), key=lambda n: n or np.inf)
    rows = []
    for (name, protocol), of_row in shown.groupby(["row", "protocol"], sort=False):
        row = {"encoder": str(name), "protocol": str(protocol)}
        for split, short in SPLITS.items():
            for n in counts:
                chosen = (of_row["split"] == split) & (of_row["labels_per_area"] == n)
                row[f"{short} {title}, {n or 'all'}"] = _spread(of_row.loc[chosen, score].to_numpy(np.float64))
        rows.append(row)
    return pd.DataFrame(rows)


def compare_few_labels(metrics: pd.DataFrame, comparisons: pd.DataFrame) -> pd.DataFrame:
    """Compare supervised encoders of n labels with every other row at n labels, draw by draw.

    Parameters
    ----------
    comparisons : DataFrame
        Table `comparisons`: the paired tests of each draw, of pairs with the same protocol.

    Returns
    -------
    DataFrame
        Per number of labels, split and pair of the same unseen brain: the number of shared draws, both means, the mean
        of the differences a − b with their standard deviation over draws, and in how many draws a is higher. Of these
        draws how many were tested, and in how many a, or b, is better at 5 % after Holm's correction.
    """
    tests = _tests(comparisons)
    metrics = metrics.assign(row=row_names(metrics))
    few = metrics[(metrics["labels_per_area"] > 0) & (metrics["protocol"] != ALL_LABEL_ENCODER)]
    found = []
    for (n, split, _), of_count in few.groupby(["labels_per_area", "split", "held_out"], sort=True):
        by_draw = {key: rows.set_index("draw") for key, rows in of_count.groupby(["row", "protocol"], sort=True)}
        for a, b in combinations(by_draw, 2):
            supervised = [by_draw[key]["method"].isin(SUPERVISED).any() for key in (a, b)]
            if a[0] == b[0] or not any(supervised):
                continue
            f1_a, f1_b = by_draw[a]["macro_f1"].align(by_draw[b]["macro_f1"], join="inner")
            difference = (f1_a - f1_b).dropna()
            if len(difference):
                encoders = [by_draw[key]["encoder"].reindex(difference.index) for key in (a, b)]
                tested = [
                    tests.get((str(split), int(str(n)), int(str(draw)), str(a[1]), str(b[1]), str(one), str(other)))
                    for draw, one, other in zip(difference.index, *encoders, strict=True)
                ]
                signs = [sign for sign in tested if sign is not None]
                found.append(
                    (n, split, *a, *b, len(difference), f1_a.mean(), f1_b.mean(), difference.mean(),
                     difference.std(), int((difference > 0).sum()), len(signs), signs.count(1), signs.count(-1))
                )  # fmt: skip
    return pd.DataFrame(found, columns=list(COLUMNS))


def few_label_comparison_rows(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `compare_few_labels` as text."""
    spread = comparisons["difference_deviation"].astype(float)
    return pd.DataFrame(
        {
            "labels": comparisons["labels_per_area"].astype(str),
            "split": comparisons["split"].map(SPLITS),
            "A": comparisons["row_a"] + ", " + comparisons["protocol_a"],
            "B": comparisons["row_b"] + ", " + comparisons["protocol_b"],
            "macro F1 A − B": [
                f"{mean:+.3f}" if np.isnan(deviation) else f"{mean:+.3f} ± {deviation:.3f}"
                for mean, deviation in zip(comparisons["difference"].astype(float), spread, strict=True)
            ],
            "draws": comparisons["draws"].astype(str),
            "A higher in": comparisons["draws_with_a_higher"].astype(str),
            "p < 0.05": [
                f"A in {a}, B in {b} of {tested}" if tested else "–"
                for a, b, tested in zip(
                    comparisons["draws_a_better"],
                    comparisons["draws_b_better"],
                    comparisons["draws_tested"],
                    strict=True,
                )
            ],
        }
    )


def _tests(comparisons: pd.DataFrame) -> dict[tuple[str, int, int, str, str, str, str], int]:
    """Return the outcome of each paired test of macro F1 with few labels: 1, −1, or 0 where it is not significant.

    By split, labels, draw, protocol of a and of b, a and b; either order of the two.
    """
    which = (
        (comparisons["measure"] == "macro_f1") & (comparisons["labels_per_area"] > 0) & comparisons["p_holm"].notna()
    )
    found = {}
    for row in comparisons[which].to_dict("records"):
        sign = int(np.sign(row["difference"])) if row["p_holm"] < SIGNIFICANT else 0
        budget = (str(row["split"]), int(row["labels_per_area"]), int(row["draw"]))
        protocol, a, b = str(row["protocol"]), str(row["encoder_a"]), str(row["encoder_b"])
        found[(*budget, protocol, protocol, a, b)] = sign
        found[(*budget, protocol, protocol, b, a)] = -sign
    return found


def _trained_on_all(metrics: pd.DataFrame) -> set[str]:
    """Return the encoders with predictions of all labels: others were trained on a few, and are probed with those."""
    predicted = without_retrieval(metrics)
    return set(predicted.loc[predicted["labels_per_area"] == 0, "encoder"])


def _spread(values: np.ndarray) -> str:
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return "–"
    return f"{values[0]:.3f}" if len(values) == 1 else f"{values.mean():.3f} ± {values.std(ddof=1):.3f}"
