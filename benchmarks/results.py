"""Print the tables of docs/results.md and draw its learning curves, from the metrics of one or several stores.

    cytonet bench results store --curves docs/pictures/learning-curves.png

Nothing is measured here: the numbers are those that the pipeline wrote to the stores.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from cytonet_pipeline.errors import CytonetError, StoreError
from cytonet_pipeline.scores import SCORES, without_retrieval
from cytonet_pipeline.store import Store, digest_of_result, read_record, read_stamp, read_table

_SPLITS = {"seen_brains": "seen brains", "unseen_brain": "unseen brain"}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("store", type=Path, nargs="+", help="stores whose metrics are shown")
    arguments.add_argument("--curves", type=Path, help="PNG of the learning curves of the first store, to be written")
    options = arguments.parse_args()
    for root in options.store:
        try:
            metrics = metrics_of(Store(root))
        except CytonetError as error:
            sys.exit(str(error))
        print(f"\n## {metrics['dataset'].iloc[0]}\n\n{scored(metrics)}\n")
        print(markdown(every_protocol(metrics)), end="\n\n")
        print(markdown(over_seeds(metrics)), end="\n\n")
        print(markdown(loss_options(metrics, Store(root))))
    if options.curves:
        draw_curves(Store(options.store[0]), options.curves)


def metrics_of(store: Store) -> pd.DataFrame:
    """Return the table of results of a store: the pipeline lets only scores into it that are current and comparable.

    Raises
    ------
    StoreError
        There is no table, or an encoder was evaluated since it was made.
    """
    rows = read_table(store.metrics() / "metrics.parquet", "metrics")
    made_from = read_stamp(store.metrics()) or {}
    left_out = made_from.get("left_out", {})
    scores = {name: store.linear_probes(name, store.current_version(name) or "") for name in store.encoders()}
    scores = {name: folder / "metrics.parquet" for name, folder in scores.items() if name not in left_out}
    now = {name: digest_of_result(path) for name, path in scores.items() if path.exists()}
    if now != made_from.get("probes"):
        raise StoreError(
            f"{store.metrics()}: encoders were evaluated since this table was made, or it is incomplete.",
            to_fix=f"CYTONET_STORE={store.root} cytonet run, with the data set and experiments of that store",
        )
    for name, reason in left_out.items():
        print(f"{store.root}: {name} is left out: {reason}", file=sys.stderr)
    return rows


def scored(metrics: pd.DataFrame) -> str:
    """Return how many patches, sections, brains and areas were scored."""
    rows = metrics.drop_duplicates("split").set_index("split")
    return "; ".join(
        f"{name}: {row.n_patches} test patches, {row.n_sections} sections, brains: {row.n_brains}, {row.n_areas} areas"
        for name, row in ((name, rows.loc[split]) for split, name in _SPLITS.items())
    )


def every_protocol(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return one row per encoder of seed 0 and protocol with all labels."""
    whole = without_retrieval(metrics[(metrics["labels_per_area"] == 0) & (metrics["seed"] == 0)])
    whole = whole[~whole["encoder"].isin(studied(metrics))]
    wide = whole.pivot_table(["macro_f1", "accuracy", "top5_accuracy"], ["method", "protocol"], "split", sort=False)
    columns = [(score, split) for score in ("macro_f1", "accuracy", "top5_accuracy") for split in _SPLITS]
    wide = wide[columns]
    wide.columns = [f"{SCORES[score].title}, {_SPLITS[split]}" for score, split in columns]
    return wide.reset_index()


def over_seeds(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return macro F1 on the unseen brain with few and all labels: the median over seeds, and the range.

    Draws are averaged first. Features are classified by logistic regression, positions by nearest neighbours.
    """
    rows = metrics[(metrics["split"] == "unseen_brain") & ~metrics["encoder"].isin(studied(metrics))]
    rows = rows[(rows["protocol"] == "logistic") | ((rows["method"] == "position") & (rows["protocol"] == "knn"))]
    drawn = rows.groupby(["method", "labels_per_area", "seed"])["macro_f1"].mean().reset_index()
    by_labels = drawn.groupby(["method", "labels_per_area"])["macro_f1"].agg(_spread).unstack(fill_value="–")
    by_labels = by_labels[[*[labels for labels in by_labels.columns if labels], 0]]
    by_labels.columns = [f"{labels} labels per area" if labels else "all labels" for labels in by_labels.columns]
    by_labels.insert(0, "seeds", drawn.groupby("method")["seed"].nunique())
    return by_labels.reset_index()


def loss_options(metrics: pd.DataFrame, store: Store) -> pd.DataFrame:
    """Return macro F1 (linear_E30, seed 0) by the options of the loss."""
    rows = metrics[(metrics["protocol"] == "linear_E30") & (metrics["method"] == "cytonet") & (metrics["seed"] == 0)]
    records = []
    for encoder, group in rows.groupby("encoder"):
        folder = store.current_encoder(str(encoder))
        loss = read_record(folder / "config.json")["block"]["loss"]
        last = read_table(folder / "history.parquet", "history").dropna(subset=["effective_rank"]).iloc[-1]
        scores = group.set_index("split")["macro_f1"]
        records.append(
            {
                "λ (mm)": loss["length_mm"],
                "τ": loss["temperature"],
                "self term": "on" if loss["self_term"] else "off",
                "effective positives": round(float(last["effective_positives"]), 1),
                "effective rank": round(float(last["effective_rank"]), 1),
                **{f"macro F1, {name}": scores[split] for split, name in _SPLITS.items()},
            }
        )
    return pd.DataFrame(records).sort_values(["self term", "τ", "λ (mm)"])


def studied(metrics: pd.DataFrame) -> set[str]:
    """Return the encoders of the study of loss options."""
    return {name for name in metrics["encoder"].unique() if name.startswith(("demo_length", "demo_temp", "demo_self"))}


def draw_curves(store: Store, path: Path) -> None:
    """Draw loss, k-NN accuracy and effective rank of the three trained methods, seed 0."""
    from cytonet_pipeline.reporting.style import PALETTE, new_figure, panels, save

    shown = {"loss": "training loss", "knn_accuracy": "k-NN accuracy, validation", "effective_rank": "effective rank"}
    figure = new_figure("Learning curves of make demo (synthetic brains, seed 0)", 10, 3)
    for place, (column, title) in zip(panels(figure, 1, len(shown)), shown.items(), strict=False):
        for colour, method in zip(PALETTE, ("cytonet", "supcon", "scratch"), strict=False):
            history = read_table(store.current_encoder(f"demo_{method}") / "history.parquet", "history")
            known = history.dropna(subset=[column])
            place.plot(known["step"], known[column], color=colour, label=method)
        place.set_title(title, fontsize=9)
        place.set_xlabel("step")
        place.legend(fontsize=7)
    save(figure, path)


def markdown(frame: pd.DataFrame) -> str:
    """Format a frame as a Markdown table."""
    numeric = [pd.api.types.is_numeric_dtype(frame[column]) for column in frame]
    lines = [
        "| " + " | ".join(map(str, frame.columns)) + " |",
        "|" + "|".join("---:" if n else "---" for n in numeric) + "|",
    ]
    for row in frame.itertuples(index=False):
        lines.append("| " + " | ".join(_cell(value) for value in row) + " |")
    return "\n".join(lines)


def _spread(values: pd.Series) -> str:
    around = f" ({values.min():.3f}–{values.max():.3f})" if len(values) > 1 else ""
    return f"{values.median():.3f}{around}"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "–" if pd.isna(value) else f"{value:.3f}" if abs(value) < 1 else f"{value:g}"
    return str(value)


if __name__ == "__main__":
    main()
