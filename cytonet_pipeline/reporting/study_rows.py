"""What the page of the study shows, as frames: picked from the table of results by what the encoders' entries say.

No name of an encoder is known here. The first trained encoder of the file, in the order of importance, has the main
budget of steps; encoders with other budgets, samples or unseen brains are compared in panels of their own.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from cytonet_pipeline.settings import SUPERVISED, TRAINED, Settings
from cytonet_pipeline.store import Store, read_record

# The protocol by which each method is read; areas are not linear in positions.
_CLASSIFIER = {"position": "knn"}
_DEFAULT_CLASSIFIER = "logistic"
POSTER_PROTOCOLS = ("linear_E30", "linear_E500")


def described(metrics: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Return the rows of encoders of the experiments file, with what their entries say.

    Returns
    -------
    DataFrame
        Beside the columns of table `metrics`: `steps` (0: not trained here), `samples` (0: all), `trained_labels`
        (0: all, or none), `few` (whether it was trained on few labels) and `main` (main budget, all patches, the data
        set's unseen brain).
    """
    blocks = settings.experiments.encoders
    rows = metrics[metrics["encoder"].isin(list(blocks))].reset_index(drop=True)
    of_row = [blocks[name] for name in rows["encoder"]]
    ordered = [blocks[name] for name in settings.experiments.by_importance()]
    budget = next((block.steps for block in ordered if block.method in TRAINED), 0)
    rows["steps"] = [block.steps if block.method in TRAINED else 0 for block in of_row]
    rows["samples"] = [block.samples or 0 for block in of_row]
    rows["trained_labels"] = [block.labels_per_area or 0 for block in of_row]
    rows["few"] = rows["trained_labels"] > 0
    usual = rows["held_out"] == settings.experiments.dataset.held_out
    rows["main"] = rows["steps"].isin([0, budget]) & (rows["samples"] == 0) & usual
    return rows


def classified(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the classifier by which each method is read: logistic regression, k-NN for positions."""
    wanted = rows["method"].map(_CLASSIFIER).fillna(_DEFAULT_CLASSIFIER)
    return rows[rows["protocol"] == wanted]


def label_efficiency(rows: pd.DataFrame, score: str = "macro_f1") -> pd.DataFrame:
    """Return a score, by default macro F1, by labels per area: a row per method, split and number of labels (0: all).

    Supervised methods were trained on these labels, the others are probed with them. `value` is the mean over seeds
    and draws; `low` and `high` span these, or are the 95 % interval over blocks of sections where there is one value.

    Returns
    -------
    DataFrame
        `method`, `split`, `labels`, `value`, `low`, `high`, `n` (seeds and draws), `bar` (what the ends are).
    """
    main = classified(rows[rows["main"]])
    # Few labels on an encoder that was trained on all of them say nothing about label efficiency.
    honest = main[(main["labels_per_area"] == main["trained_labels"]) | ~main["method"].isin(SUPERVISED)]
    points = []
    for (method, split, labels), group in honest.groupby(["method", "split", "labels_per_area"], sort=False):
        values = group[score].dropna()
        if values.empty:
            continue
        one = group.iloc[0]
        ends = (values.min(), values.max()) if len(values) > 1 else (one[f"{score}_low"], one[f"{score}_high"])
        bar = "range over seeds and draws" if len(values) > 1 else "95 % interval over blocks"
        keys = {"method": method, "split": split, "labels": labels}
        points.append({**keys, "value": values.mean(), "low": ends[0], "high": ends[1], "n": len(values), "bar": bar})
    return pd.DataFrame(points, columns=["method", "split", "labels", "value", "low", "high", "n", "bar"])


def poster_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the poster's table: a row per method and sample, macro F1 by E30 and E500, seen and unseen."""
    whole = rows[(rows["labels_per_area"] == 0) & ~rows["few"]]
    # Smaller samples are told apart by their number of patches; the budget of steps is that of the main rows.
    budget = whole.loc[whole["main"] & (whole["steps"] > 0), "steps"]
    usual = whole["main"] | (whole["samples"].gt(0) & whole["steps"].isin(budget))
    whole = whole[usual]
    records = [
        {
            "method": method,
            "patches": _patches(group),
            "seeds": group["seed"].nunique(),
            **_scores_of(method, group),
        }
        for method, group in sorted(_by_sample(whole), key=_poster_order)
    ]
    return pd.DataFrame(records)


def budgets(rows: pd.DataFrame) -> pd.DataFrame:
    """Return macro F1 with all labels by method, patches and steps: a row each, on both splits."""
    main_brain = rows.loc[rows["main"], "held_out"]
    whole = classified(rows[(rows["labels_per_area"] == 0) & ~rows["few"] & rows["held_out"].isin(main_brain)])
    whole = whole[(whole["steps"] > 0) & (whole["seed"] == 0)]
    keys = ["method", "pretrain_samples", "steps"]
    wide = whole.pivot_table(["macro_f1", "macro_f1_low", "macro_f1_high"], keys, "split")
    wide.columns = ["_".join(column) for column in wide.columns]
    return wide.reset_index()


def unknown_brains(rows: pd.DataFrame, labels: int) -> pd.DataFrame:
    """Return macro F1 on each unseen brain with a number of labels per area: a row per brain, a column per method.

    Only brains of which all methods have a value, so that medians are of the same brains.
    """
    unseen = classified(rows[(rows["split"] == "unseen_brain") & (rows["labels_per_area"] == labels)])
    supervised = unseen["method"].isin(SUPERVISED)
    unseen = unseen[
        (unseen["samples"] == 0) & (unseen["seed"] == 0) & (~supervised | (unseen["trained_labels"] == labels))
    ]
    unseen = unseen[unseen["steps"].isin(rows.loc[rows["main"], "steps"]) & (unseen["draw"] == 0)]
    return unseen.pivot_table("macro_f1", "held_out", "method").dropna(axis=1, thresh=2).dropna()


def observations(rows: pd.DataFrame, store: Store) -> pd.DataFrame:
    """Return the poster's observations as numbers: a row per encoder that has UMAP figures."""
    records = []
    for encoder, version in (
        rows[rows["main"]].drop_duplicates("encoder")[["encoder", "version"]].itertuples(index=False)
    ):
        path = store.umap(encoder, version) / "figures.json"
        if path.is_file():
            embedding = read_record(path)["embedding"]
            records.append({"encoder": encoder, **_observed(embedding["brains"], embedding["central_sulcus"])})
    return pd.DataFrame(records)


def seconds_trained(rows: pd.DataFrame, store: Store) -> Mapping[str, float]:
    """Return the seconds of each encoder's training, by encoder."""
    seconds = {}
    for encoder, version in rows.drop_duplicates("encoder")[["encoder", "version"]].itertuples(index=False):
        path: Path = store.encoder(encoder, version) / "encoder.json"
        if path.is_file():
            seconds[str(encoder)] = float(read_record(path)["figures"].get("seconds") or 0.0)
    return seconds


def spread(values: pd.Series) -> str:
    """Write the median of some values, with their range where there are several."""
    values = values.dropna()
    if values.empty:
        return "–"
    around = f" ({values.min():.3f}–{values.max():.3f})" if len(values) > 1 else ""
    return f"{values.median():.3f}{around}"


def _by_sample(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(str(group["method"].iloc[0]), group) for _, group in rows.groupby(["method", "samples"])]


def _poster_order(entry: tuple[str, pd.DataFrame]) -> tuple[int, int]:
    methods = ("cytonet", "scratch", "supcon", "pretrained", "random", "intensity", "position")
    method, group = entry
    return methods.index(method), int(group["pretrain_samples"].max())


def _patches(group: pd.DataFrame) -> str:
    patches = int(group["pretrain_samples"].max())
    return f"{patches:,}" if patches else "–"


def _scores_of(method: str, group: pd.DataFrame) -> dict[str, str]:
    """Return the cells of E30 and E500; position has one classifier, which stands in both."""
    cells = {}
    for protocol in POSTER_PROTOCOLS:
        of_protocol = group[group["protocol"] == _CLASSIFIER.get(method, protocol)]
        for split, title in (("seen_brains", "seen"), ("unseen_brain", "unseen")):
            of_split = of_protocol[of_protocol["split"] == split]
            cell = spread(of_split["macro_f1"])
            if len(of_split) == 1 and pd.notna(of_split["macro_f1_low"].iloc[0]):
                low, high = of_split[["macro_f1_low", "macro_f1_high"]].iloc[0]
                cell = f"{cell} [{low:.3f}, {high:.3f}]"
            cells[f"{protocol.removeprefix('linear_')}, {title}"] = cell
    return cells


def _observed(brains: Mapping[str, float], sulcus: Mapping[str, float]) -> dict[str, object]:
    return {
        "same-brain neighbours over chance": brains["same_brain_excess"],
        "brain means removed": brains["same_brain_excess_centred"],
        "silhouette by brain": brains["silhouette_by_brain"],
        "silhouette by area": brains["silhouette_by_area"],
        "central sulcus over other sulci": sulcus.get("step_over_other_sulci"),
        "central sulcus over within a bank": sulcus.get("step_over_within"),
    }
