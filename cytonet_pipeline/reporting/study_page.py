"""The page of the study: figures and tables from the current table of results, as Markdown with pictures beside it.

Nothing is computed here. A section without rows is left out, and what the page lacks is listed at its end.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from cytonet_pipeline import __version__
from cytonet_pipeline.evaluation.table.metrics_table import is_synthetic
from cytonet_pipeline.reporting.study_claims import claims
from cytonet_pipeline.reporting.study_figures import brains_figure, budget_figure, label_figure
from cytonet_pipeline.reporting.study_rows import (
    budgets,
    described,
    label_efficiency,
    observations,
    poster_table,
    seconds_trained,
    unknown_brains,
)
from cytonet_pipeline.reporting.style import save
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store, read_record, read_table, write_text
from cytonet_pipeline.store.processes import processor_name

_SYNTHETIC = (
    "**The brains are synthetic: these figures test the software, not the merit of a method**, and none of them "
    "reproduces a published figure."
)


def write_study_page(folder: Path, settings: Settings) -> Path:
    """Write `results.md` and its pictures into a folder; return the page.

    The table of results has to be current: whoever calls has asked its stage.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(settings.store)
    rows = described(read_table(store.metrics() / "metrics.parquet", "metrics"), settings)
    comparisons = read_table(store.metrics() / "comparisons.parquet", "comparisons")
    lines = ["# Results of the study", "", *_head(rows, settings, store)]
    lines += _label_section(folder, rows)
    lines += _section("The poster's table", poster_table(rows), _POSTER)
    seen = observations(rows, store)
    stated = claims(rows, comparisons, seen)
    lines += _section("What does not hold, what is open, what holds", stated, _CLAIMS)
    lines += _budget_section(folder, rows)
    lines += _brain_section(folder, rows, settings)
    lines += _section("Observations of the poster as numbers", seen, _OBSERVED)
    lines += _section("At borders, and what position gets wrong", _borders(rows), _BORDERS)
    lines += _border_label_section(rows)
    lines += _section("Retrieval without labels (mm)", _retrieval(rows), _RETRIEVAL)
    lines += _missing(rows, settings)
    page = folder / "results.md"
    write_text(page, "\n".join(lines).rstrip() + "\n")
    return page


_POSTER = (
    "Macro F1 of linear probes after 30 and 500 epochs; median over seeds with their range in parentheses, 95 % "
    "interval over blocks of sections in brackets where there is one seed. Position has one classifier (k-NN)."
)
_CLAIMS = (
    "Differences are CytoNet's minus the other's on the same resampled blocks, p by Holm's method within the table of "
    "results; they are conditional on the unseen brain."
)
_OBSERVED = "1 means: no more than chance, or no larger step than elsewhere."
_BORDERS = (
    "Unseen brain, all labels: patches within 3 mm of a border of the atlas, and the share of the position control's "
    "errors that a method gets right."
)
_RETRIEVAL = "Median distance in Colin-27 from the place sought to the nearest neighbour in feature space."


def _head(rows: pd.DataFrame, settings: Settings, store: Store) -> list[str]:
    unseen = rows[(rows["split"] == "unseen_brain") & rows["main"]]
    scored = rows[rows["main"]].drop_duplicates("split").set_index("split")
    counts = "; ".join(
        f"{str(split).replace('_', ' ')}: {row['n_patches']:,} patches, "
        f"{row['n_sections']} sections, {row['n_areas']} areas"
        for split, row in scored.to_dict("index").items()
    )
    seconds = seconds_trained(rows, store)
    dataset = ", ".join(dict.fromkeys(unseen["dataset"]))
    text = [_SYNTHETIC, ""] if is_synthetic(settings) else []
    hours, seeds = sum(seconds.values()) / 3600, ", ".join(map(str, sorted(rows["seed"].unique())))
    text += [
        f"Data: {dataset}. Scored: {counts}.",
        "",
        f"Command: `cytonet study` ({settings.experiments_file.name}), version {__version__}, commit "
        f"{_commits(rows, store)}; this page was written on {processor_name()}. {len(seconds)} encoders; training took "
        f"{hours:.1f} h in all, each on one thread. Seeds: {seeds}.",
    ]
    return text


def _commits(rows: pd.DataFrame, store: Store) -> str:
    """Return the commits that the encoders' records name; one with changes that were not committed is marked."""
    found: dict[str, None] = {}
    for encoder, version in rows.drop_duplicates("encoder")[["encoder", "version"]].itertuples(index=False):
        path = store.encoder(encoder, version) / "encoder.json"
        if path.is_file():
            git = read_record(path)["environment"].get("git") or {}
            changed = " with changes" if git.get("changed") else ""
            found[f"{str(git.get('commit') or 'unknown')[:9]}{changed}"] = None
    return ", ".join(found) or "unknown"


def _label_section(folder: Path, rows: pd.DataFrame) -> list[str]:
    points = label_efficiency(rows)
    if points["labels"].nunique() < 2:
        return []
    picture = _save(label_figure(points, "Macro F1 over labels per area"), folder / "labels.png")
    bars = "; ".join(f"{bar}: {n} points" for bar, n in points["bar"].value_counts().items())
    note = (
        "Scratch and SupCon were trained on these labels, all other features are probed with them (logistic regression "
        f"for each; k-NN for position). Bars: {bars}."
    )
    return ["", "## Macro F1 over labels per area", "", picture, "", note, "", markdown(_by_labels(points))]


def _border_label_section(rows: pd.DataFrame) -> list[str]:
    """Return what looking at cells adds to position at each number of labels, of rows whose predictions are stored."""
    lines: list[str] = []
    for score, title in _AT_BORDERS.items():
        points = label_efficiency(rows, score)
        points = points[points["split"] == "unseen_brain"]
        if (points["labels"] > 0).any():
            lines += _section(
                f"{title} over labels per area, unseen brain", _by_labels(points).drop(columns="split"), ""
            )
    return lines


_AT_BORDERS = {"border_macro_f1": "Macro F1 at borders", "position_errors_corrected": "Position's errors corrected"}


def _by_labels(points: pd.DataFrame) -> pd.DataFrame:
    """Return a row per split and method, and a column per number of labels, as text."""
    cells = points.assign(
        cell=[_cell(*each) for each in points[["value", "low", "high"]].itertuples(index=False)],
        at=["all" if labels == 0 else str(labels) for labels in points["labels"]],
    )
    order = [str(labels) for labels in sorted(set(points["labels"]) - {0})] + ["all"]
    wide = cells.pivot_table("cell", ["split", "method"], "at", aggfunc="first", fill_value="–")
    wide = wide[[at for at in order if at in wide]].reset_index()
    return wide.assign(split=wide["split"].str.replace("_", " "))


def _budget_section(folder: Path, rows: pd.DataFrame) -> list[str]:
    table = budgets(rows)
    if table.empty or table.groupby(["method", "pretrain_samples"]).size().max() < 2:
        return []
    figure = budget_figure(table, "Macro F1 by steps and patches (logistic, all labels, seed 0)")
    return _section("More steps, more tissue", table, "", _save(figure, folder / "budgets.png"))


def _brain_section(folder: Path, rows: pd.DataFrame, settings: Settings) -> list[str]:
    for labels in sorted(settings.experiments.evaluation.labels_per_area):
        wide = unknown_brains(rows, labels)
        if len(wide) < 2 or len(wide.columns) < 2:
            continue
        title = f"Each brain left out in turn, {labels} labels per area"
        note = "; ".join(f"{m}: median {v.median():.3f} ({v.min():.3f}–{v.max():.3f})" for m, v in wide.items())
        picture = _save(brains_figure(wide, title), folder / "brains.png")
        return _section(title, wide.reset_index().rename(columns={"held_out": "unseen brain"}), note, picture)
    return []


def _borders(rows: pd.DataFrame) -> pd.DataFrame:
    whole = rows[rows["main"] & (rows["labels_per_area"] == 0) & (rows["split"] == "unseen_brain") & ~rows["few"]]
    whole = whole[(whole["seed"] == 0) & whole["border_macro_f1"].notna()]
    return whole[["method", "protocol", "macro_f1", "border_macro_f1", "position_errors_corrected"]]


def _retrieval(rows: pd.DataFrame) -> pd.DataFrame:
    found = rows[rows["main"] & (rows["seed"] == 0) & ~rows["few"] & rows["retrieval_mm"].notna()]
    return found[["method", "protocol", "split", "retrieval_mm", "retrieval_chance_mm", "retrieval_best_mm"]]


def _missing(rows: pd.DataFrame, settings: Settings) -> list[str]:
    known = set(rows["encoder"])
    missing = [name for name in settings.experiments.by_importance() if name not in known]
    if not missing:
        return []
    return ["", "## Not in this page", "", f"{len(missing)} encoders without current results: {', '.join(missing)}."]


def _section(title: str, table: pd.DataFrame, note: str, *pictures: str) -> list[str]:
    if table.empty:
        return []
    texts = [text for text in (*pictures, note, markdown(table)) if text]
    return ["", f"## {title}", *(line for text in texts for line in ("", text))]


def _save(figure: Figure, path: Path) -> str:
    save(figure, path)
    return f"![{figure.get_suptitle()}]({path.name})"


def _cell(value: float, low: float, high: float) -> str:
    return f"{value:.3f}" if pd.isna(low) else f"{value:.3f} ({low:.3f}–{high:.3f})"


def markdown(frame: pd.DataFrame) -> str:
    """Format a frame as a Markdown table: three digits, a dash where there is no value."""
    numeric = [pd.api.types.is_numeric_dtype(frame[column]) for column in frame]
    head = [
        "| " + " | ".join(map(str, frame.columns)) + " |",
        "|" + "|".join("---:" if n else "---" for n in numeric) + "|",
    ]
    return "\n".join([*head, *("| " + " | ".join(map(_text, row)) + " |" for row in _values(frame))])


def _values(frame: pd.DataFrame) -> Sequence[tuple[object, ...]]:
    return list(frame.itertuples(index=False, name=None))


def _text(value: object) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
