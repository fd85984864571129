"""Distance on the cortex between true and predicted area: confusing neighbours is not confusing lobes."""

import io
from pathlib import Path

import numpy as np
import pandas as pd

from cytonet_pipeline.registration import ReferenceSpace
from cytonet_pipeline.store import Store, digest_bytes, write_text


def medoid_distances_mm(reference_folder: Path, store: Store) -> pd.DataFrame:
    """Return geodesic distances between the medoids of the reference's areas, areas × areas (mm).

    They take about ten seconds to compute on a full atlas and are the same for every encoder: they are cached in the
    store under the reference's digest, and computed again if the cache is damaged.
    """
    reference = ReferenceSpace.load(reference_folder)
    cached = store.root / "linear_probes" / f".area_distances-{reference.digest}.csv"
    text = _without_digest(cached)
    if text is None:
        text = reference.area_medoid_distances().to_csv()
        write_text(cached, f"{text}# {digest_bytes(text.encode())}\n")
    distances_mm = pd.read_csv(io.StringIO(text), index_col=0)
    return distances_mm.set_axis(distances_mm.columns.astype(np.int64), axis=1)


def _without_digest(cached: Path) -> str | None:
    """Read a cached table whose last line is the digest of those before; None if it is missing or does not fit."""
    try:
        lines = cached.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, ValueError):
        return None
    text = "".join(lines[:-1])
    return text if lines and lines[-1] == f"# {digest_bytes(text.encode())}\n" else None


def distance_summary(predictions: pd.DataFrame, distances_mm: pd.DataFrame) -> dict[str, dict[str, float | int | None]]:
    """Average the geodesic distance between the medoids of true and predicted area, by split.

    Distances are within a hemisphere and between cortical areas of the atlas. Patches of areas that the atlas does not
    have, or whose predicted area it does not have, are left out and counted.

    Parameters
    ----------
    predictions : DataFrame
        `split`, `area`, `predicted_area`.
    distances_mm : DataFrame
        Areas × areas (mm), as `ReferenceSpace.area_medoid_distances` gives them.

    Returns
    -------
    dict
        For each split `mean_mm` over all patches (0 for a correct prediction), `mean_of_errors_mm`, `chance_mm` (the
        same predictions assigned to the patches at random), `n_patches` and `n_left_out`; means are None without
        patches.
    """
    return {str(split): _of_split(rows, distances_mm) for split, rows in predictions.groupby("split")}


def _of_split(rows: pd.DataFrame, distances_mm: pd.DataFrame) -> dict[str, float | int | None]:
    places = [distances_mm.index.get_indexer(pd.Index(rows[name])) for name in ("area", "predicted_area")]
    true, predicted = (p[(places[0] >= 0) & (places[1] >= 0)] for p in places)
    table = distances_mm.to_numpy(np.float64)
    mm = table[true, predicted]
    # Two areas without a common hemisphere have no distance.
    known = np.isfinite(mm)
    shares = [np.bincount(p[known], minlength=len(table)) / max(known.sum(), 1) for p in (true, predicted)]
    return {
        "mean_mm": _mean(mm[known]),
        "mean_of_errors_mm": _mean(mm[known & (true != predicted)]),
        "chance_mm": float(shares[0] @ np.nan_to_num(table, posinf=0) @ shares[1]) if known.any() else None,
        "n_patches": int(known.sum()),
        "n_left_out": int(len(rows) - known.sum()),
    }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
