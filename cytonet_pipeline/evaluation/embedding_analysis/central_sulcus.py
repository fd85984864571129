"""The step across the central sulcus: whether features change there more than distance explains.

Motor cortex (areas 4a, 4p) faces somatosensory cortex (3a, 3b) across the sulcus. Pairs of patches across it are
compared with pairs at the same distance within a bank, and with pairs of other areas that belong to different gyri.
Features are measured, not the UMAP, which distorts distances.
"""

import re

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from cytonet_pipeline.store import REFERENCE_MM

MOTOR = frozenset({"4a", "4p"})
SENSORY = frozenset({"3a", "3b"})
BIN_MM = 2.0
MAX_DISTANCE_MM = 20.0
MIN_PAIRS = 30
# Per brain and hemisphere: enough for a mean, and few enough to look at all pairs.
_MAX_ROWS = 4000
_KINDS = ("across", "within", "other")


def central_sulcus_step(
    features: np.ndarray, rows: pd.DataFrame, names: pd.DataFrame, seed: int = 0
) -> dict[str, object]:
    """Compare cosine distances of features across the central sulcus with those at the same distance elsewhere.

    Pairs are within one brain and hemisphere. Bins of 2 mm are weighted by their number of pairs across the sulcus, so
    that all three kinds of pairs have the same distribution of distances.

    Parameters
    ----------
    features : (N, D) array
    rows : DataFrame
        N rows with `brain`, `hemisphere`, `annotated_area` and `ref_x_mm` … `ref_z_mm`.
    names : DataFrame
        `index` and `name` of annotated areas; the gyrus is in parentheses at the end of the name, as in Julich-Brain.

    Returns
    -------
    dict
        `available`; if not, `reason`. Else mean cosine distances (`across`, `within`, `other_sulci`), the ratios
        `step_over_within` and `step_over_other_sulci`, and numbers of pairs. `other_sulci` is None without such pairs.
    """
    areas = pd.DataFrame(
        {"index": names["index"], "bank": names["name"].map(_bank), "gyrus": names["name"].map(_gyrus)}
    )
    if not {"motor", "sensory"} <= set(areas["bank"]):
        return {"available": False, "reason": "the annotations name no areas 4a/4p and 3a/3b"}
    joined = rows[["brain", "hemisphere", "annotated_area", *REFERENCE_MM]].reset_index(drop=True)
    joined = joined.merge(areas, left_on="annotated_area", right_on="index", how="left")
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    known = joined["annotated_area"] > 0
    groups = [of_side.index.to_numpy() for _, of_side in joined[known].groupby(["brain", "hemisphere"], sort=True)]
    generator = np.random.Generator(np.random.Philox(seed))
    pairs = [_pairs(joined, unit, index, generator) for index in groups]
    return _compared(pd.concat(pairs, ignore_index=True) if pairs else _no_pairs())


def _pairs(joined: pd.DataFrame, unit: np.ndarray, index: np.ndarray, generator: np.random.Generator) -> pd.DataFrame:
    """Return pairs of one hemisphere: `kind`, `bin` of distance, and `apart`, the cosine distance of the features."""
    of_banks = joined["bank"].to_numpy()[index] != ""
    rest = index[~of_banks]
    room = max(0, _MAX_ROWS - int(of_banks.sum()))
    index = np.concatenate([index[of_banks], generator.permutation(rest)[:room]])
    points_mm = joined[list(REFERENCE_MM)].to_numpy(np.float64)[index]
    near = cKDTree(points_mm).query_pairs(MAX_DISTANCE_MM, output_type="ndarray")
    i, j = index[near[:, 0]], index[near[:, 1]]
    kind = _kind(*(joined[c].to_numpy()[at] for c in ("bank", "gyrus") for at in (i, j)))
    kept = kind != ""
    distance_mm = np.linalg.norm(points_mm[near[kept, 0]] - points_mm[near[kept, 1]], axis=1)
    apart = 1 - np.einsum("nd,nd->n", unit[i[kept]], unit[j[kept]], dtype=np.float64)
    return pd.DataFrame({"kind": kind[kept], "bin": (distance_mm // BIN_MM).astype(int), "apart": apart})


def _kind(bank_i: np.ndarray, bank_j: np.ndarray, gyrus_i: np.ndarray, gyrus_j: np.ndarray) -> np.ndarray:
    in_banks = (bank_i != "") & (bank_j != "")
    elsewhere = (bank_i == "") & (bank_j == "") & (gyrus_i != "") & (gyrus_j != "") & (gyrus_i != gyrus_j)
    kind = np.full(len(bank_i), "", dtype=object)
    kind[in_banks & (bank_i != bank_j)] = "across"
    kind[in_banks & (bank_i == bank_j)] = "within"
    kind[elsewhere] = "other"
    return kind


def _compared(pairs: pd.DataFrame) -> dict[str, object]:
    counts = pairs.groupby(["bin", "kind"]).size().unstack(fill_value=0).reindex(columns=list(_KINDS), fill_value=0)
    means = pairs.groupby(["bin", "kind"])["apart"].mean().unstack().reindex(columns=list(_KINDS))
    matched = counts.index[(counts["across"] > 0) & (counts["within"] > 0)]
    if counts.loc[matched, "across"].sum() < MIN_PAIRS:
        reason = f"fewer than {MIN_PAIRS} pairs across the central sulcus within {MAX_DISTANCE_MM:g} mm"
        return {"available": False, "reason": reason}
    across, within = (_weighted(means, counts, matched, kind) for kind in ("across", "within"))
    with_other = matched[(counts.loc[matched, "other"] > 0).to_numpy()]
    other = _weighted(means, counts, with_other, "other") if len(with_other) else None
    across_there = _weighted(means, counts, with_other, "across") if len(with_other) else 0.0
    return {
        "available": True,
        "across": round(across, 5),
        "within": round(within, 5),
        "other_sulci": None if other is None else round(other, 5),
        "step_over_within": round(across / within, 4) if within > 0 else None,
        "step_over_other_sulci": round(across_there / other, 4) if other else None,
        **{f"pairs_{kind}": int(counts.loc[matched, kind].sum()) for kind in _KINDS},
        "bin_mm": BIN_MM,
        "furthest_mm": MAX_DISTANCE_MM,
    }


def _weighted(means: pd.DataFrame, counts: pd.DataFrame, bins: pd.Index, kind: str) -> float:
    return float(np.average(means.loc[bins, kind], weights=counts.loc[bins, "across"]))


def _no_pairs() -> pd.DataFrame:
    return pd.DataFrame({"kind": pd.Series(dtype=object), "bin": pd.Series(dtype=int), "apart": pd.Series(dtype=float)})


def _bank(name: str) -> str:
    words = set(re.split(r"[^0-9A-Za-z]+", name))
    return "motor" if words & MOTOR else "sensory" if words & SENSORY else ""


def _gyrus(name: str) -> str:
    gyrus = re.search(r"\(([^()]+)\)\s*$", name)
    return gyrus.group(1) if gyrus else ""
