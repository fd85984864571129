"""The table of results as text: Markdown and LaTeX.

This module only formats: it computes nothing but the mean over draws.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from cytonet_pipeline.evaluation.table.comparisons import smallest_corrected_p
from cytonet_pipeline.evaluation.table.patch_sets import patch_sets, remarks_on
from cytonet_pipeline.evaluation.table.text_cells import SPLITS, markdown_rows, with_interval
from cytonet_pipeline.evaluation.table.text_sections import border_section, few_label_section, retrieval_section
from cytonet_pipeline.markup import from_markdown, in_markdown
from cytonet_pipeline.scores import RETRIEVAL, SCORES, without_retrieval

_KEYS = ["encoder", "method", "backbone", "held_out", "seed", "protocol"]
# These first, the other scores after them.
_FIRST = ("macro_f1", "balanced_accuracy")
_HEADINGS = {name: SCORES[name].heading for name in dict.fromkeys((*_FIRST, *SCORES))}
_LATEX = str.maketrans(
    {"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
     "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "–": "--", "±": r"$\pm$"}
)  # fmt: skip


@dataclass(frozen=True)
class Provenance:
    """Provenance of a table: what a reader must know before the first number.

    Attributes
    ----------
    datasets : sequence of str
        Names of the data sets that the rows come from.
    synthetic : bool
        Whether the data set or the reference is declared synthetic.
    missing : sequence of str
        Encoders without results.
    left_out : mapping
        Encoders whose results cannot stand beside the others, with the reason.
    retired : sequence of str
        Encoders in the table that are not trained any more.
    classes : mapping
        By held-out brain, the areas that each split was scored on: one line per list.
    sets : DataFrame
        As `patch_sets` returns them.
    without_retrieval : sequence of str
        Encoders in the table whose rows of retrieval are missing or stale.
    few_labels : sequence of str
        What must be known of encoders that were trained on a few labels, such as areas that have fewer.
    collapsed : mapping
        By encoder, how the features of one that was trained on labels have collapsed.
    """

    datasets: Sequence[str]
    synthetic: bool
    missing: Sequence[str] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    retired: Sequence[str] = ()
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    sets: pd.DataFrame = field(default_factory=lambda: patch_sets({}, {}))
    without_retrieval: Sequence[str] = ()
    few_labels: Sequence[str] = ()
    collapsed: Mapping[str, str] = field(default_factory=dict)

    def sentence(self) -> str:
        """Return the first line of every table."""
        data = f"Data: {', '.join(self.datasets) or 'none yet'}."
        if self.synthetic:
            return f"{data} Synthetic brains: these figures test the plumbing, not the merit of any method."
        return data

    def remarks(self) -> list[str]:
        """Return what must be known before rows are compared, one sentence each."""
        left_out = [f"encoder {name} is left out: {reason}" for name, reason in self.left_out.items()]
        retired = [f"encoder {name} is retired: it is not trained any more" for name in self.retired]
        collapsed = [f"encoder {name}: {remark}" for name, remark in self.collapsed.items()]
        return [*left_out, *retired, *collapsed, *remarks_on(self.sets)]

    def marks(self) -> dict[str, str]:
        """Return what stands behind the name of an encoder, of those with something to know."""
        apart = set(self.sets.loc[self.sets["set"] > 1, "encoder"])
        words = {
            name: [word for word, names in (("retired", self.retired), ("other patches", apart)) if name in names]
            for name in sorted({*self.retired, *apart})
        }
        return {name: f" ({', '.join(of_name)})" for name, of_name in words.items()}


@dataclass(frozen=True)
class Page:
    """What the page of results shows.

    Attributes
    ----------
    metrics, errors, comparisons : DataFrame
        Table `metrics`; distances of errors and scores by obliquity; table `comparisons`.
    border_remarks : sequence of str
        Why values on borders or position are missing.
    bootstrap : int
        Resamplings behind the comparisons.
    """

    metrics: pd.DataFrame
    errors: pd.DataFrame
    comparisons: pd.DataFrame
    provenance: Provenance
    border_remarks: Sequence[str] = ()
    bootstrap: int = 0


def markdown_page(page: Page) -> str:
    """Return the whole page: provenance, the table, what adds to it, errors, class lists, comparisons."""
    metrics, provenance = page.metrics, page.provenance
    same, rows = without_constants(main_rows(metrics, provenance))
    remarks = "\n".join(f"{_BULLET}{in_markdown(remark)}" for remark in provenance.remarks())
    parts = [in_markdown(provenance.sentence()), _missing(provenance), remarks]
    parts += [_BODY, markdown_rows(rows), in_markdown(_same(same)), _NOTES]
    parts += border_section(metrics, page.border_remarks)
    parts += few_label_section(metrics, page.comparisons, provenance.few_labels)
    parts += retrieval_section(metrics, provenance.without_retrieval)
    if len(page.errors):
        parts += ["## Errors", _ERRORS, markdown_rows(error_rows(page.errors))]
    if provenance.classes:
        parts += ["## Areas", *(_class_list(held_out, lines) for held_out, lines in provenance.classes.items())]
    if len(page.comparisons):
        all_labels = page.comparisons[page.comparisons["labels_per_area"] == 0]
        parts += ["## Encoders compared", _COMPARED, _too_few_resamplings(page)]
        parts += [markdown_rows(comparison_rows(shown := all_labels.head(_PAIRS_SHOWN)))]
        more = len(page.comparisons) - len(shown)
        parts += [f"{more:,} more pairs are in `comparisons.csv`."] if more > 0 else []
    return "\n\n".join(part for part in parts if part) + "\n"


def remarks_in(page: str) -> tuple[str, ...]:
    """Return the remarks that stand before the first table of a page, as plain text."""
    return tuple(line.removeprefix(_BULLET) for line in head_of(page).splitlines() if line.startswith(_BULLET))


def head_of(page: str) -> str:
    """Return what stands before the first table of a page, as plain text."""
    return from_markdown(page.partition(_BODY)[0].strip())


def latex_table(metrics: pd.DataFrame, provenance: Provenance) -> str:
    """Return the main table as a plain `tabular` to be read with `input`, with the provenance above it as a comment."""
    same, rows = without_constants(main_rows(metrics, provenance))
    lines = [
        *(f"% {line}".rstrip() for line in (f"{provenance.sentence()} {_same(same)}", *provenance.remarks())),
        rf"\begin{{tabular}}{{{'l' * rows.shape[1]}}}",
        r"\hline",
        " & ".join(str(name).translate(_LATEX) for name in rows.columns) + r" \\",
        r"\hline",
        *(" & ".join(str(cell).translate(_LATEX) for cell in row) + r" \\" for row in rows.itertuples(index=False)),
        r"\hline",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def main_rows(metrics: pd.DataFrame, provenance: Provenance) -> pd.DataFrame:
    """Return a row per encoder and protocol with all labels and a column per split and score, as text.

    Where rows were not scored on the same patches, a column says which have the same set.
    """
    rows = []
    marks, sets = provenance.marks(), provenance.sets
    number_of = {(r["encoder"], r["protocol"], r["split"]): int(r["set"]) for r in sets.to_dict("records")}
    differing = set(sets.loc[sets["set"] > 0, "split"])
    predicted = without_retrieval(metrics)
    for keys, of_entry in predicted[predicted["labels_per_area"] == 0].groupby(_KEYS, sort=False):
        row = dict(zip(_KEYS, map(str, keys), strict=True))
        encoder, protocol = row["encoder"], row["protocol"]
        row["encoder"] += marks.get(encoder, "")
        row["samples"] = str(of_entry["pretrain_samples"].iloc[0])
        by_split = {str(record["split"]): record for record in of_entry.to_dict("records")}
        for split, short in SPLITS.items():
            for score, title in _HEADINGS.items():
                row[f"{short} {title}"] = with_interval(by_split[split], score, wide=score == "macro_f1")
            row[f"{short} areas"] = str(by_split[split]["n_areas"])
            row[f"{short} patches"] = str(by_split[split]["n_patches"])
            if split in differing:
                row[f"{short} set"] = str(number_of.get((encoder, protocol, split), 0) or "–")
        rows.append(row)
    return pd.DataFrame(rows)


def without_constants(rows: pd.DataFrame) -> tuple[dict[str, str], pd.DataFrame]:
    """Take out columns, other than scores, that are the same in every row, so that the table stays narrow."""
    if len(rows) < 2:
        return {}, rows
    scores = {f"{short} {title}" for short in SPLITS.values() for title in _HEADINGS.values()}
    same = {str(name): str(rows[name].iloc[0]) for name in rows if name not in scores and rows[name].nunique() == 1}
    return same, rows.drop(columns=list(same))


def error_rows(errors: pd.DataFrame) -> pd.DataFrame:
    """Return a row per encoder, protocol and split: distances of wrong areas and macro F1 by obliquity, as text."""
    columns = {
        "mean_mm": "mean mm", "mean_of_errors_mm": "errors mm", "chance_mm": "chance mm",
        "low": "F1 straight", "middle": "F1 middle", "high": "F1 oblique",
    }  # fmt: skip
    shown = pd.DataFrame({"encoder": errors["encoder"], "protocol": errors["protocol"]})
    shown["split"] = errors["split"].map(SPLITS)
    for name, title in columns.items():
        digits = 1 if name.endswith("_mm") else 3
        values = errors[name].astype(float) if name in errors else pd.Series(np.nan, index=errors.index)
        shown[title] = ["–" if np.isnan(value) else f"{value:.{digits}f}" for value in values]
    return shown


def comparison_rows(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Return a row per pair of encoders and measure, as text; pairs that cannot be compared say why."""
    records = comparisons.to_dict("records")
    return pd.DataFrame(
        {
            "measure": [_MEASURES[str(row["measure"])] for row in records],
            "protocol": [str(row["protocol"]).removeprefix(RETRIEVAL).replace("_", " ")
                         if row["measure"] == "retrieval_mm" else str(row["protocol"]) for row in records],
            "split": comparisons["split"].map(SPLITS).to_list(),
            "A": comparisons["encoder_a"].to_list(),
            "B": comparisons["encoder_b"].to_list(),
            "A − B": [_signed_interval(row) for row in records],
            "p (Holm)": ["–" if np.isnan(p) else f"{p:.3f}" for p in comparisons["p_holm"].astype(float)],
            "of tests": comparisons["n_family"].astype(str).to_list(),
            "patches": comparisons["n_patches"].astype(str).to_list(),
            "blocks": comparisons["n_blocks"].astype(str).to_list(),
        }
    )  # fmt: skip


_BODY = "## All labels"
_BULLET = "* "
# Pairs grow with the square of encoders; the table of comparisons has them all.
_PAIRS_SHOWN = 400
_NOTES = (
    "*seen*: test sections of brains whose other sections were trained on; *unseen*: a brain that was not trained on. "
    "Averages over areas run over the areas that occur in the scored sections and have training samples. Brackets: "
    "95 % interval from resampling blocks of contiguous sections, omitted for fewer than ten blocks; it is conditional "
    "on the brains scored. *samples*: patches seen in training the encoder."
)
_ERRORS = (
    "Geodesic distance within a hemisphere between the medoids of the true and the predicted area: over all patches "
    "(a correct prediction is 0), over errors, and for the same predictions assigned to patches at random. Macro F1 in "
    "thirds of the angle between section and surface normal: cut most nearly at right angles, middle, most oblique."
)
_MEASURES = {"macro_f1": "macro F1", "border_macro_f1": "macro F1 at borders", "retrieval_mm": "retrieval (mm)"}
_COMPARED = (
    "Difference on the patches that both were measured on and the same resampled blocks, with its 95 % interval; no "
    "interval and no p with fewer than ten blocks. Of retrieval the smaller median is the better one. p values with "
    "Holm's correction over *tests*: all pairs of one measure, protocol, split, held-out brain, number of labels and "
    "draw. Here those with all labels; single draws of few labels are in `comparisons.csv`. "
    "Two trained networks are compared, not two methods: the spread over seeds is separate."
)


def _missing(provenance: Provenance) -> str:
    if not provenance.missing:
        return ""
    return in_markdown(f"Encoders without results so far: {', '.join(provenance.missing)}.")


def _same(same: Mapping[str, str]) -> str:
    return f"The same in all rows: {', '.join(f'{name} {value}' for name, value in same.items())}." if same else ""


def _too_few_resamplings(page: Page) -> str:
    """Say which families cannot reach 0.05: p is no smaller than the number of resamplings allows."""
    weak = smallest_corrected_p(page.comparisons, page.bootstrap)
    if weak.empty:
        return ""
    largest = int(weak["n_family"].max())
    return in_markdown(
        f"With {page.bootstrap} resamplings no corrected p of {len(weak)} families of up to {largest} tests can fall "
        f"below 0.05, however large a difference is; 'bootstrap: {40 * largest}' in the evaluation block is enough."
    )


def _class_list(held_out: str, lines: Sequence[str]) -> str:
    return "\n".join([f"Held-out brain {in_markdown(held_out)}:", "", *(f"* {in_markdown(line)}" for line in lines)])


def _signed_interval(row: Mapping[Hashable, Any]) -> str:
    if row["left_out"]:
        return f"not compared: {row['left_out']}"
    value, low, high = (float(row[name]) for name in ("difference", "difference_low", "difference_high"))
    digits = 1 if row["measure"] == "retrieval_mm" else 3
    shown = f"{value:+.{digits}f}"
    return shown if np.isnan(low) else f"{shown} [{low:+.{digits}f}, {high:+.{digits}f}]"
