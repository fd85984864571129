"""The tables and the picture of docs/results.md, from the metrics of one or several stores.

    cytonet bench results store --curves docs/pictures/learning-curves.png

Nothing is measured here: the figures are those that the pipeline left in the stores.
"""

import argparse
from pathlib import Path

import pandas as pd

from cytonet_pipeline.store import Store, read_record, read_table

_SPLITS = {"seen_brains": "seen brains", "unseen_brain": "unseen brain"}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("store", type=Path, nargs="+", help="stores whose metrics are shown")
    arguments.add_argument("--curves", type=Path, help="PNG of the learning curves of the first store, to be written")
    given = arguments.parse_args()
    for root in given.store:
        metrics = metrics_of(Store(root))
        print(f"\n## {metrics['dataset'].iloc[0]}\n\n{scored(metrics)}\n")
        print(markdown(every_protocol(metrics)), end="\n\n")
        print(markdown(over_seeds(metrics)), end="\n\n")
        print(markdown(loss_options(metrics, Store(root))))
    if given.curves:
        draw_curves(Store(given.store[0]), given.curves)


def metrics_of(store: Store) -> pd.DataFrame:
    """Rows of all encoders in the store: of every experiments file, where the table of results has those of one."""
    folders = (store.linear_probes(name, store.current_version(name) or "") for name in store.encoders())
    return pd.concat(
        [read_table(f / "metrics.parquet", "metrics") for f in folders if (f / "metrics.parquet").exists()]
    )


def scored(metrics: pd.DataFrame) -> str:
    """On how much the figures rest."""
    rows = metrics.drop_duplicates("split").set_index("split")
    return "; ".join(
        f"{name}: {row.n_patches} test patches, {row.n_sections} sections, brains: {row.n_brains}, {row.n_areas} areas"
        for name, row in ((said, rows.loc[split]) for split, said in _SPLITS.items())
    )


def every_protocol(metrics: pd.DataFrame) -> pd.DataFrame:
    """One row an encoder of seed 0 and a protocol with all labels."""
    whole = metrics[(metrics["labels_per_area"] == 0) & (metrics["seed"] == 0)]
    whole = whole[~whole["encoder"].isin(studied(metrics))]
    wide = whole.pivot_table(["macro_f1", "accuracy", "top5_accuracy"], ["method", "protocol"], "split", sort=False)
    columns = [(score, split) for score in ("macro_f1", "accuracy", "top5_accuracy") for split in _SPLITS]
    wide = wide[columns]
    wide.columns = [f"{score.replace('_', ' ')}, {_SPLITS[split]}" for score, split in columns]
    return wide.reset_index()


def over_seeds(metrics: pd.DataFrame) -> pd.DataFrame:
    """Macro F1 on the unseen brain with few and all labels: median over seeds, and the range. Draws are averaged first.

    Logistic regression on features; of positions the nearest neighbours.
    """
    rows = metrics[(metrics["split"] == "unseen_brain") & ~metrics["encoder"].isin(studied(metrics))]
    rows = rows[(rows["protocol"] == "logistic") | ((rows["method"] == "position") & (rows["protocol"] == "knn"))]
    drawn = rows.groupby(["method", "labels_per_area", "seed"])["macro_f1"].mean().reset_index()
    told = drawn.groupby(["method", "labels_per_area"])["macro_f1"].agg(_spread).unstack()
    told = told[[*[labels for labels in told.columns if labels], 0]]
    told.columns = [f"{labels} labels an area" if labels else "all labels" for labels in told.columns]
    told.insert(0, "seeds", drawn.groupby("method")["seed"].nunique())
    return told.reset_index()


def loss_options(metrics: pd.DataFrame, store: Store) -> pd.DataFrame:
    """Macro F1 on the unseen brain (linear_E30, seed 0) by the options of the loss."""
    rows = metrics[(metrics["protocol"] == "linear_E30") & (metrics["method"] == "cytonet") & (metrics["seed"] == 0)]
    told = []
    for encoder, group in rows.groupby("encoder"):
        folder = store.current_encoder(str(encoder))
        loss = read_record(folder / "config.json")["block"]["loss"]
        seen = read_table(folder / "history.parquet", "history").dropna(subset=["effective_rank"]).iloc[-1]
        scores = group.set_index("split")["macro_f1"]
        told.append(
            {
                "λ (mm)": loss["length_mm"],
                "τ": loss["temperature"],
                "self term": "on" if loss["self_term"] else "off",
                "effective positives": round(float(seen["effective_positives"]), 1),
                "effective rank": round(float(seen["effective_rank"]), 1),
                **{f"macro F1, {said}": scores[split] for split, said in _SPLITS.items()},
            }
        )
    return pd.DataFrame(told).sort_values(["self term", "τ", "λ (mm)"])


def studied(metrics: pd.DataFrame) -> set[str]:
    """Encoders of the study of the loss."""
    return {name for name in metrics["encoder"].unique() if name.startswith(("demo_length", "demo_temp", "demo_self"))}


def draw_curves(store: Store, path: Path) -> None:
    """Loss, k-NN accuracy and effective rank of the three trained methods, seed 0."""
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
    """The frame as a table of a Markdown document."""
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
