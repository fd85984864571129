"""Sections of the page of results on what the main table does not show: borders, position, few labels, retrieval."""

from collections.abc import Sequence

import pandas as pd

from cytonet_pipeline.evaluation.table.border_scores import BORDER_MM, border_rows
from cytonet_pipeline.evaluation.table.few_labels import (
    ALL_LABEL_ENCODER,
    compare_few_labels,
    few_label_comparison_rows,
    label_rows,
)
from cytonet_pipeline.evaluation.table.text_cells import SPLITS, markdown_rows, number, with_interval
from cytonet_pipeline.markup import in_markdown
from cytonet_pipeline.scores import RETRIEVAL, retrieval_only

_BORDERS = (
    f"*at borders*: macro F1 over patches whose centre lies within {BORDER_MM:g} mm of a border of the atlas, in a "
    "straight line in Colin-27. A border is where two areas of one hemisphere meet; the outer rim of the cortex and "
    "the edge to cortex that is not mapped are none. *corrected*: share of the patches that the position control gets "
    "wrong which this row gets right, on the same patches; position is classified by k-NN, whatever the protocol of "
    "the row. Brackets as above."
)
_FEW = (
    "Mean ± standard deviation over draws of labels. Supervised encoders are trained on the labels of their column; "
    f"the probes of the others get the same. *{ALL_LABEL_ENCODER}*: only the probe has few labels, the encoder was "
    "trained on all of them; not to be compared with the other rows."
)
_FEW_COMPARED = (
    "Supervised encoders against the others with the same labels, draw by draw: mean difference ± standard deviation "
    "over draws. All draws are scored on the same patches, so this spread is no interval for other brains. *p < 0.05*: "
    "draws in which one of the two is better by the paired test on resampled blocks, after Holm's correction over all "
    "pairs of the draw; – where their protocols differ or there are fewer than ten blocks."
)
_FEW_SCORES = {
    "border_macro_f1": ("at borders", "Macro F1 at borders, as above:"),
    "position_errors_corrected": ("corrected", "Share of position's errors corrected, position with as many labels:"),
}
_RETRIEVED = (
    "Median distance (mm, Colin-27) from the place sought to the patch whose features are nearest. *next section*: "
    "the place itself, in the held-out sections before and after; *mirrored place*: the mirrored place, in the other "
    "hemisphere of the brain; *other brain*: the place itself, in all other brains. The first and the third look in "
    "the hemisphere of the query. No label is used. Brackets: 95 % interval over blocks of sections."
)
_BOUNDS = (
    "*best*: the candidate nearest to the place sought; *chance*: a candidate at random; *grey statistics*: the "
    "`intensity` control, which knows mean, deviation and histogram of the patch."
)


def border_section(metrics: pd.DataFrame, remarks: Sequence[str]) -> list[str]:
    """Return heading, explanation, table and remarks on borders and position; nothing if no row has predictions."""
    remark_list = "\n".join(f"* {in_markdown(remark)}" for remark in remarks if remark)
    rows = border_rows(metrics[metrics["labels_per_area"] == 0])
    if rows.empty and not remark_list:
        return []
    shown = [
        {
            "encoder": str(row["encoder"]),
            "protocol": str(row["protocol"]),
            "split": SPLITS[row["split"]],
            "macro F1": number(row["macro_f1"], 3),
            "at borders": with_interval(row, "border_macro_f1"),
            "patches": number(row["n_border_patches"]),
            "corrected": with_interval(row, "position_errors_corrected"),
            "of errors": number(row["n_position_errors"]),
        }
        for row in rows.to_dict("records")
    ]
    return ["## Borders and position", _BORDERS, remark_list, *([markdown_rows(pd.DataFrame(shown))] if shown else [])]


def few_label_section(metrics: pd.DataFrame, comparisons: pd.DataFrame, warnings: Sequence[str]) -> list[str]:
    """Return heading, explanation and tables on few labels per area; nothing without any.

    Parameters
    ----------
    warnings : sequence of str
        What must be known of encoders that were trained on a few labels.
    """
    if not (metrics["labels_per_area"] > 0).any():
        return []
    parts = ["## Few labels per area", _FEW]
    parts += [markdown_rows(label_rows(metrics)), "\n".join(f"* {in_markdown(line)}" for line in warnings)]
    for score, (title, text) in _FEW_SCORES.items():
        if metrics.loc[metrics["labels_per_area"] > 0, score].notna().any():
            parts += [text, markdown_rows(label_rows(metrics, score, title))]
    if len(compared := compare_few_labels(metrics, comparisons)):
        parts += [_FEW_COMPARED, markdown_rows(few_label_comparison_rows(compared))]
    return parts


def retrieval_section(metrics: pd.DataFrame, without: Sequence[str]) -> list[str]:
    """Return heading, explanation and tables on retrieval; nothing if no encoder has rows of it.

    Parameters
    ----------
    without : sequence of str
        Encoders in the table whose rows of retrieval are missing or stale.
    """
    rows = retrieval_only(metrics)
    missing = ""
    if without:
        missing = in_markdown(f"Without current rows of retrieval: {', '.join(without)}; cytonet run makes them.")
    if rows.empty:
        return ["## Retrieval", missing] if missing else []
    rows = rows.assign(search=[_search(r["protocol"], r["split"]) for r in rows.to_dict("records")])
    nothing = [
        str(name) for name, of_search in rows.groupby("search", sort=False) if (of_search["n_patches"] == 0).all()
    ]
    absent = in_markdown(f"Without any query: {', '.join(nothing)}.") if nothing else ""
    rows = rows[~rows["search"].isin(nothing)]
    medians = []
    for encoder, of_encoder in rows.groupby("encoder", sort=False):
        by_search = {row["search"]: row for row in of_encoder.to_dict("records")}
        cells = {name: with_interval(by_search[name], "retrieval_mm", digits=1) if name in by_search else "–"
                 for name in dict.fromkeys(rows["search"])}  # fmt: skip
        medians.append({"encoder": str(encoder), **cells})
    tables = [markdown_rows(pd.DataFrame(medians)), _BOUNDS, markdown_rows(bound_rows(rows))] if medians else []
    return ["## Retrieval", _RETRIEVED, missing, absent, *tables]


def bound_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Return what retrieval can be held against, as text: a row per unseen brain, search and set of queries."""
    bounds = rows.drop_duplicates(["held_out", "search", "retrieval_chance_mm", "retrieval_best_mm", "n_patches"])
    floors = rows[rows["method"] == "intensity"].groupby(["held_out", "search"])["retrieval_mm"].first().to_dict()
    return pd.DataFrame(
        {
            "held out": [str(row["held_out"]) for row in bounds.to_dict("records")],
            "search": bounds["search"].to_list(),
            "best": [number(value, 1) for value in bounds["retrieval_best_mm"]],
            "grey statistics": [
                number(floors.get((row["held_out"], row["search"])), 1) for row in bounds.to_dict("records")
            ],
            "chance": [number(value, 1) for value in bounds["retrieval_chance_mm"]],
            "queries": [number(value) for value in bounds["n_patches"]],
        }
    )


def _search(protocol: str, split: str) -> str:
    return f"{protocol.removeprefix(RETRIEVAL).replace('_', ' ')}, {SPLITS[split]}"
