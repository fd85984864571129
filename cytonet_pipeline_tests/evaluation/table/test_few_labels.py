"""Rows of few labels: which encoders share one, and who is compared with whom."""

import numpy as np
import pandas as pd
import pytest

from cytonet_pipeline.evaluation.table.few_labels import (
    ALL_LABEL_ENCODER,
    compare_few_labels,
    few_label_comparison_rows,
    label_rows,
    row_names,
    with_protocols_of_few_labels,
)
from cytonet_pipeline.store import table

NO_TESTS = pd.DataFrame(columns=[column.name for column in table("comparisons").columns])
F1 = {"cyto": 0.5, "scratch_n10": 0.2, "scratch_nall": 0.9}


@pytest.fixture
def metrics():
    """CytoNet probed with 10 labels and all, scratch trained on either; two draws, a step of 0.1 between them."""
    rows = [row("cyto", "cytonet", "logistic", 10, draw) for draw in (0, 1)]
    rows += [row("cyto", "cytonet", "logistic", 0), row("scratch_nall", "scratch", "logistic", 0)]
    rows += [row("scratch_nall", "scratch", "logistic", 10, draw) for draw in (0, 1)]
    rows += [row(f"scratch_n10_draw{draw}", "scratch", "logistic", 10, draw) for draw in (0, 1)]
    rows += [row("scratch_n10_draw0", "scratch", "end_to_end", 10)]
    return with_protocols_of_few_labels(pd.DataFrame(rows))


def row(encoder, method, protocol, labels, draw=0):
    f1 = F1[encoder.split("_draw")[0]] + 0.1 * draw * (2 if method == "scratch" else 1)
    return {
        "encoder": encoder, "method": method, "protocol": protocol, "labels_per_area": labels, "draw": draw,
        "split": "unseen_brain", "held_out": "B20", "macro_f1": f1,
    }  # fmt: skip


def test_only_probes_of_few_labels_on_encoders_of_all_labels_get_another_name(metrics):
    renamed = metrics[metrics["protocol"] == ALL_LABEL_ENCODER]

    assert set(renamed["encoder"]) == {"scratch_nall"}
    assert set(renamed["labels_per_area"]) == {10}
    assert set(metrics.loc[metrics["encoder"] == "cyto", "protocol"]) == {"logistic"}


def test_encoders_that_differ_in_their_labels_have_one_row(metrics):
    assert set(row_names(metrics)) == {"cyto", "scratch"}

    rows = label_rows(metrics).set_index(["encoder", "protocol"])
    assert rows.loc[("scratch", "logistic"), "unseen macro F1, 10"] == "0.300 ± 0.141"
    assert rows.loc[("scratch", "logistic"), "unseen macro F1, all"] == "0.900"
    assert rows.loc[("scratch", ALL_LABEL_ENCODER), "unseen macro F1, 10"] == "1.000 ± 0.141"
    assert rows.loc[("scratch", ALL_LABEL_ENCODER), "unseen macro F1, all"] == "–"
    assert rows.loc[("cyto", "logistic"), "unseen macro F1, 10"] == "0.550 ± 0.071"


def test_a_supervised_encoder_is_compared_with_probes_of_the_same_labels_draw_by_draw(metrics):
    compared = compare_few_labels(metrics, NO_TESTS).set_index(["row_a", "protocol_a", "row_b", "protocol_b"])

    assert set(compared.index) == {
        ("cyto", "logistic", "scratch", "logistic"), ("cyto", "logistic", "scratch", "end_to_end")
    }  # fmt: skip
    pair = compared.loc[("cyto", "logistic", "scratch", "logistic")]
    assert pair["draws"] == pair["draws_with_a_higher"] == 2
    assert pair["difference"] == pytest.approx(0.25)
    assert pair["difference_deviation"] == pytest.approx(np.std([0.3, 0.2], ddof=1))
    assert compared.loc[("cyto", "logistic", "scratch", "end_to_end"), "draws"] == 1


def test_other_unseen_brains_and_other_numbers_of_labels_are_not_compared(metrics):
    theirs = metrics["encoder"] == "cyto"

    assert compare_few_labels(metrics.assign(held_out=metrics["held_out"].mask(theirs, "B01")), NO_TESTS).empty
    assert compare_few_labels(
        metrics.assign(labels_per_area=metrics["labels_per_area"].mask(theirs, 3)), NO_TESTS
    ).empty


def test_draws_are_counted_in_which_the_paired_test_finds_one_better(metrics):
    """Whichever of the two the table of comparisons names first, and only where p is small after correction."""
    keys = {"measure": "macro_f1", "protocol": "logistic", "split": "unseen_brain", "labels_per_area": 10}
    tests = pd.DataFrame([
        {**keys, "draw": 0, "encoder_a": "scratch_n10_draw0", "encoder_b": "cyto", "difference": -0.3, "p_holm": 0.01},
        {**keys, "draw": 1, "encoder_a": "cyto", "encoder_b": "scratch_n10_draw1", "difference": 0.2, "p_holm": 0.2},
    ])  # fmt: skip

    compared = compare_few_labels(metrics, tests).set_index(["row_a", "protocol_a", "row_b", "protocol_b"])

    counts = ["draws_tested", "draws_a_better", "draws_b_better"]
    assert compared.loc[("cyto", "logistic", "scratch", "logistic"), counts].tolist() == [2, 1, 0]
    other = compared.loc[("cyto", "logistic", "scratch", "end_to_end")]
    assert other[counts].tolist() == [0, 0, 0]
    assert few_label_comparison_rows(compared.reset_index())["p < 0.05"].tolist() == ["–", "A in 1, B in 0 of 2"]


def test_other_measures_of_few_labels_have_rows_of_their_own(metrics):
    at_borders = metrics.assign(border_macro_f1=metrics["macro_f1"].where(metrics["method"] == "cytonet") / 2)

    rows = label_rows(at_borders, "border_macro_f1", "at borders")

    assert rows["encoder"].tolist() == ["cyto"]
    assert rows["unseen at borders, 10"].tolist() == ["0.275 ± 0.035"]
