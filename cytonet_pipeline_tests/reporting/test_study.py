"""The page of the study picks rows by what the encoders' entries say, and puts first what does not hold."""

import numpy as np
import pandas as pd
import pytest

from cytonet_pipeline.reporting import study_page
from cytonet_pipeline.reporting.study_claims import FAILS, HOLDS, OPEN, claims
from cytonet_pipeline.reporting.study_figures import brains_figure, budget_figure, label_figure
from cytonet_pipeline.reporting.study_rows import budgets, described, label_efficiency, poster_table, unknown_brains
from cytonet_pipeline.settings import Settings

_FILE = """
dataset: {density_per_mm3: 0.03, held_out: B20}
encoders:
  cytonet: &net {method: cytonet, working_pixel_um: 128, steps: 300, seed: [0, 1]}
  scratch: {<<: *net, method: scratch, seed: 0, labels_per_area: [10, all], labels_draw: [0, 1]}
  small: {<<: *net, seed: 0, samples: 500}
  long: {<<: *net, seed: 0, steps: 900}
  left: {<<: *net, seed: 0, held_out: [B01]}
  left_scratch: {<<: *net, method: scratch, seed: 0, held_out: [B01], labels_per_area: 10}
  position: {method: position, working_pixel_um: 128}
evaluation: {labels_per_area: [10], draws: 2}
"""
_F1 = {"cytonet_seed0": 0.5, "cytonet_seed1": 0.54, "scratch_nall": 0.6, "scratch_n10_draw0": 0.2}


@pytest.fixture
def settings(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(_FILE)
    return Settings(data=tmp_path, reference=tmp_path, store=tmp_path, experiments_file=path)


@pytest.fixture
def metrics(settings):
    rows = []
    for name, block in settings.experiments.encoders.items():
        few = block.labels_per_area or 0
        protocols = ("knn",) if block.method == "position" else ("logistic", "linear_E30", "linear_E500")
        points = [(few, block.labels_draw)] if few else [(0, 0), (10, 0), (10, 1)]
        for protocol in protocols if not few else ("logistic",):
            for labels, draw in points:
                for split in ("seen_brains", "unseen_brain"):
                    value = _F1.get(name, 0.3) - 0.1 * (labels > 0 and not few) + 0.01 * draw
                    ends = (np.nan, np.nan) if labels else (value - 0.1, value + 0.1)
                    rows.append({
                        "dataset": "synthetic", "encoder": name, "version": "1", "method": block.method,
                        "seed": block.seed, "held_out": block.held_out or "B20", "protocol": protocol,
                        "labels_per_area": labels, "draw": draw, "split": split,
                        "pretrain_samples": (block.samples or 900) if block.method != "position" else 0,
                        "n_patches": 100, "n_sections": 4, "n_areas": 5,
                        "macro_f1": value, "macro_f1_low": ends[0], "macro_f1_high": ends[1],
                    })  # fmt: skip
    return pd.DataFrame(rows)


def test_a_supervised_method_at_few_labels_is_the_encoder_trained_on_them(metrics, settings):
    """Ten labels of the probe on scratch that saw all of them say nothing about label efficiency."""
    points = label_efficiency(described(metrics, settings)).set_index(["method", "split", "labels"])

    few, whole = (points.loc["scratch", "unseen_brain", labels] for labels in (10, 0))
    assert few["value"] == pytest.approx((0.2 + 0.31) / 2)
    assert few["n"] == 2
    assert (whole["low"], whole["high"]) == pytest.approx((0.5, 0.7))
    assert whole["bar"] == "95 % interval over blocks"
    ours = points.loc["cytonet", "unseen_brain", 10]
    assert (ours["value"], ours["n"]) == (pytest.approx((0.4 + 0.41 + 0.44 + 0.45) / 4), 4)


def test_the_table_of_the_poster_has_a_row_per_sample_and_none_of_other_budgets_or_brains(metrics, settings):
    table = poster_table(described(metrics, settings))

    assert list(zip(table["method"], table["patches"], strict=True)) == [
        ("cytonet", "500"), ("cytonet", "900"), ("scratch", "900"), ("position", "–"),
    ]  # fmt: skip
    assert table["E30, unseen"][1] == "0.520 (0.500–0.540)"
    assert table["E500, seen"][0] == "0.300 [0.200, 0.400]"
    assert table["E30, seen"][3] == table["E500, seen"][3]


def test_brains_left_out_are_compared_at_the_same_labels(metrics, settings):
    wide = unknown_brains(described(metrics, settings), 10)

    assert list(wide.index) == ["B01", "B20"]
    assert wide.loc["B20"].to_dict() == pytest.approx({"cytonet": 0.4, "scratch": 0.2})


def test_what_does_not_hold_comes_first(metrics, settings):
    rows = described(metrics, settings)
    pair = {"measure": "macro_f1", "protocol": "linear_E30", "split": "unseen_brain", "labels_per_area": 0}
    against = {"encoder_a": "scratch_nall", "encoder_b": "cytonet_seed0", "difference": 0.1, "p_holm": 0.01}

    stated = claims(rows, pd.DataFrame([{**pair, **against}]), pd.DataFrame())

    assert list(stated["verdict"]) == sorted(stated["verdict"], key=[FAILS, OPEN, HOLDS].index)
    first = stated.iloc[0]
    assert "all labels, E30: CytoNet is ahead of scratch" in first["statement"]
    assert first["measured"] == "-0.100, p = 0.01"
    held = stated.loc[stated["verdict"] == HOLDS, "statement"]
    assert held.str.contains("10 labels per area: CytoNet is ahead of scratch trained on them").any()


@pytest.mark.parametrize(("p", "differences", "verdict"), [
    ((0.01, 0.02), (0.2, 0.3), HOLDS), ((0.01, 0.02), (-0.2, -0.3), FAILS), ((0.01, 0.2), (0.2, 0.3), OPEN),
    ((0.01, 0.02), (0.2, -0.3), OPEN),
])  # fmt: skip
def test_at_few_labels_the_paired_tests_of_all_draws_decide(metrics, settings, p, differences, verdict):
    """Ranges over draws of labels do not overlap here, but they know nothing of other sections."""
    keys = {"measure": "macro_f1", "protocol": "logistic", "split": "unseen_brain", "labels_per_area": 10}
    tests = pd.DataFrame([
        {**keys, "encoder_a": "cytonet_seed0", "encoder_b": "scratch_n10_draw0", "difference": differences[0],
         "p_holm": p[0]},
        {**keys, "encoder_a": "scratch_n10_draw1", "encoder_b": "cytonet_seed0", "difference": -differences[1],
         "p_holm": p[1]},
        {**keys, "encoder_a": "scratch_n10_draw1", "encoder_b": "cytonet_seed1", "difference": 9, "p_holm": 0.0},
    ])  # fmt: skip

    stated = claims(described(metrics, settings), tests, pd.DataFrame()).set_index("statement")

    row = stated.loc["unseen brain, 10 labels per area: CytoNet is ahead of scratch trained on them"]
    assert row["verdict"] == verdict
    assert "of 2 draws" in row["measured"]


def test_borders_have_a_table_over_labels_where_predictions_are_stored(metrics, settings):
    none = dict.fromkeys(("border_macro_f1", "position_errors_corrected"), np.nan)
    ends = {f"{name}_{end}": np.nan for name in none for end in ("low", "high")}
    without = metrics.assign(**none, **ends)
    few = metrics["labels_per_area"] > 0

    lines = study_page._border_label_section(
        described(without.assign(border_macro_f1=metrics["macro_f1"].where(few)), settings)
    )

    assert study_page._border_label_section(described(without, settings)) == []
    assert lines[1] == "## Macro F1 at borders over labels per area, unseen brain"
    assert "| scratch | 0.255 (0.200–0.310) |" in lines[-1]


def test_figures_have_a_panel_per_split_with_values_and_a_name_per_line(metrics, settings):
    rows = described(metrics, settings)
    points = label_efficiency(rows)

    both, one = label_figure(points, "t"), label_figure(points[points["split"] == "unseen_brain"], "t")

    assert [axes.get_title() for axes in both.axes] == ["unseen brain", "seen brains"]
    assert [axes.get_title() for axes in one.axes] == ["unseen brain"]
    assert {text.get_text() for text in one.axes[0].texts} == {"CytoNet, probe", "from scratch", "position only"}
    assert [tick.get_text() for tick in one.axes[0].get_xticklabels()] == ["10", "all"]
    assert {text.get_text() for text in budget_figure(budgets(rows), "t").axes[0].texts} == {"CytoNet, 900 patches"}
    assert len(brains_figure(unknown_brains(rows, 10), "t").axes[0].get_xticks()) == 2


def test_sections_without_rows_are_left_out_and_missing_encoders_are_named(metrics, settings, tmp_path):
    only = described(metrics[metrics["encoder"] == "position"], settings)

    assert study_page._budget_section(tmp_path, only) == []
    assert study_page._brain_section(tmp_path, only, settings) == []
    named = study_page._missing(only, settings)[-1]
    assert "cytonet_seed0" in named
    assert "position" not in named.split(": ")[1].split(", ")


@pytest.mark.parametrize(("excess", "centred", "sulcus", "verdicts"), [
    ((1.7, 1.8), (1.2, 1.3), (1.4, None), [HOLDS, HOLDS, HOLDS]),
    ((0.8, 0.7), (1.0, 1.0), (0.5, 0.6), [FAILS, FAILS, FAILS]),
    ((1.05, 1.7), (1.04, 1.2), (1.05, 1.2), [OPEN, OPEN, OPEN]),
])  # fmt: skip
def test_observations_hold_by_a_tenth_in_every_seed_or_are_open(metrics, settings, excess, centred, sulcus, verdicts):
    names = ("same-brain neighbours over chance", "brain means removed", "central sulcus over other sulci")
    observed = pd.DataFrame(zip(excess, centred, sulcus, strict=True), columns=list(names), dtype=float)
    observed["encoder"] = ["cytonet_seed0", "cytonet_seed1"]
    tests = pd.DataFrame(columns=[
        "measure", "protocol", "split", "labels_per_area", "encoder_a", "encoder_b", "difference", "p_holm",
    ])  # fmt: skip

    stated = claims(described(metrics, settings), tests, observed).set_index("statement")["verdict"]

    begins = ("brains separate", "less after removing", "the step at the central sulcus")
    assert [stated[next(s for s in stated.index if s.startswith(each))] for each in begins] == verdicts
