"""Scores by how obliquely the cortex was cut: a tangential cut shows no layers."""

import numpy as np
import pandas as pd

from cytonet_pipeline.evaluation.metrics.scoring import scores

_TERCILES = ("low", "middle", "high")


def scores_by_obliquity(predictions: pd.DataFrame) -> pd.DataFrame:
    """The scores of each split in thirds of `obliquity_deg`.

    Parameters
    ----------
    predictions : DataFrame
        `split`, `area`, `predicted_area`, `in_top`, `obliquity_deg`; patches without an angle are in no third.

    Returns
    -------
    DataFrame
        `split`, `tercile`, `from_deg`, `to_deg`, `n_patches` and the scores. Thirds are those of the split's patches.
    """
    rows = []
    for split, of_split in predictions.dropna(subset=["obliquity_deg"]).groupby("split", sort=True):
        angles = of_split["obliquity_deg"].to_numpy(np.float64)
        edges = np.quantile(angles, [0, 1 / 3, 2 / 3, 1])
        third = np.searchsorted(edges[1:3], angles, side="right")
        for number, name in enumerate(_TERCILES):
            mine = of_split[third == number]
            said = {"split": split, "tercile": name, "from_deg": edges[number], "to_deg": edges[number + 1]}
            rows.append({**said, "n_patches": len(mine), **scores(mine)})
    return pd.DataFrame(rows)
