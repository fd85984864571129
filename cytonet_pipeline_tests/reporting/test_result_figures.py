"""Figures of results: what is drawn is what the tables say."""

import itertools
import os
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix

from cytonet_pipeline.evaluation.table.few_labels import ALL_LABEL_ENCODER
from cytonet_pipeline.reporting.border_figure import border_figure, draw_borders
from cytonet_pipeline.reporting.confusion_figure import confusion_shares, draw_confusion
from cytonet_pipeline.reporting.curves import draw_curves, training_curves
from cytonet_pipeline.reporting.index_figure import draw_index
from cytonet_pipeline.reporting.metrics_figure import bars_note, draw_metrics
from cytonet_pipeline.reporting.retrieval_figure import draw_retrieval, retrieval_figure
from cytonet_pipeline.reporting.style import save
from cytonet_pipeline.store import is_drawn, record_drawings, table, write_stamp

NAMES = pd.DataFrame({"index": [1, 2, 3], "name": ["a", "b", "c"], "color": ["#ff0000", "#00ff00", "#0000ff"]})


@pytest.fixture
def metrics():
    random = np.random.default_rng(0)
    rows = [
        {
            "encoder": e,
            "method": e.removeprefix("demo_"),
            "protocol": p,
            "labels_per_area": n,
            "draw": draw,
            "split": s,
            "macro_f1": random.uniform(0.2, 0.8),
        }
        for e in ("demo_cytonet", "demo_random")
        for p, n, draws in (("linear_E30", 0, 1), ("logistic", 10, 3))
        for draw in range(draws)
        for s in ("seen_brains", "unseen_brain")
    ]
    frame = pd.DataFrame(rows).assign(dataset="phantom")
    return frame.assign(macro_f1_low=frame["macro_f1"] - 0.1, macro_f1_high=frame["macro_f1"] + 0.05)


def test_dots_stand_where_the_table_says(metrics):
    axes = draw_metrics(metrics).axes[0]
    labels = [t.get_text() for t in axes.get_yticklabels()]
    drawn = axes.containers[1].lines[0].get_xdata()  # unseen brain

    for encoder, x in zip(labels, drawn, strict=True):
        of_encoder = metrics[metrics["encoder"] == encoder]
        row = of_encoder.query("protocol == 'linear_E30' and split == 'unseen_brain'")
        assert x == pytest.approx(row["macro_f1"].item())


def test_bars_are_the_intervals(metrics):
    axes = draw_metrics(metrics).axes[0]
    (bars,) = axes.containers[0].lines[2]
    widths = [np.ptp(segment[:, 0]) for segment in bars.get_segments()]

    np.testing.assert_allclose(widths, 0.15)


def test_the_note_says_which_bars_there_are_and_why_there_are_no_intervals(metrics):
    without = metrics.assign(macro_f1_low=np.nan, macro_f1_high=np.nan)

    assert bars_note(metrics, ["macro_f1"]) == (
        "bars: 95 % interval over blocks of sections or standard deviation over draws of labels"
    )
    none = "no intervals: fewer than ten blocks of sections"
    assert bars_note(without, ["macro_f1"]) == f"bars: standard deviation over draws of labels; {none}"
    assert bars_note(without[without["labels_per_area"] == 0], ["macro_f1"]) == none


def test_a_long_title_does_not_run_into_that_of_the_next_panel(metrics):
    few = metrics[metrics["labels_per_area"] > 0].assign(protocol=ALL_LABEL_ENCODER)
    figure = draw_metrics(pd.concat([few, few.assign(labels_per_area=100), metrics]))
    figure.canvas.draw()

    boxes = [axes.title.get_window_extent() for axes in figure.axes if axes.get_title()]
    assert len(boxes) == 4
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_draws_of_labels_are_one_dot(metrics):
    axes = draw_metrics(metrics).axes[1]

    assert axes.get_title() == "logistic, 10 labels per area"
    first = metrics.query("encoder == 'demo_random' and labels_per_area == 10 and split == 'seen_brains'")
    assert axes.containers[0].lines[0].get_xdata()[0] == pytest.approx(first["macro_f1"].mean())


def test_confusions_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    predictions = pd.DataFrame(
        {"area": random.choice([1, 2, 3], 300), "predicted_area": random.choice([1, 2, 3, 9], 300)}
    )
    areas = np.array([1, 2, 3])

    shares = confusion_shares(predictions, areas)

    expected = confusion_matrix(
        predictions["area"], predictions["predicted_area"], labels=[1, 2, 3, 9], normalize="true"
    )
    np.testing.assert_allclose(shares, expected[:3])


def test_an_area_without_patches_has_no_row_of_zeros():
    shares = confusion_shares(pd.DataFrame({"area": [1], "predicted_area": [1]}), np.array([1, 2]))

    assert np.isnan(shares[1]).all()


def test_only_splits_with_patches_have_a_matrix():
    predictions = pd.DataFrame({"split": "unseen_brain", "area": [1, 2], "predicted_area": [1, 1]})
    figure = draw_confusion(predictions, NAMES, "demo")

    assert [axes.get_title() for axes in figure.axes if axes.images] == ["test, unseen brain"]


@pytest.fixture
def history():
    frame = pd.DataFrame({column.name: np.nan for column in table("history").columns}, index=range(20))
    return frame.assign(step=np.arange(20) * 10, loss=np.linspace(6, 2, 20), learning_rate=1e-3, knn_accuracy=0.5)


def test_there_is_a_panel_for_what_was_measured_and_no_other(history, tmp_path):
    titles = [axes.get_title() for axes in draw_curves(history, "demo").axes if axes.axison]

    assert titles == ["training loss", "learning rate", "k-NN accuracy, validation sections\nbest after step 0"]
    assert training_curves(history, tmp_path / "curves.png", title="demo").stat().st_size > 1000


def test_the_best_state_is_ringed_and_its_step_is_in_the_title(history):
    history.loc[7, "knn_accuracy"] = 0.8

    (shown,) = [axes for axes in draw_curves(history, "demo").axes if "k-NN" in axes.get_title()]

    assert "best after step 70" in shown.get_title()
    assert [(70.0, 0.8)] in [list(zip(*line.get_data(), strict=True)) for line in shown.lines]


def test_curves_go_through_the_values(history):
    line = draw_curves(history, "demo").axes[0].lines[0]

    np.testing.assert_allclose(line.get_ydata(), history["loss"])
    np.testing.assert_allclose(line.get_xdata(), history["step"])


def test_splits_are_counted_beside_their_bars():
    index = pd.DataFrame(
        {"brain": "B01", "split": ["train"] * 5 + ["gap"] * 2, "annotated_area": [0, 1, 1, 0, 0, 0, 3]}
    )
    index = index.assign(ref_x_mm=0.0, ref_y_mm=1.0, ref_z_mm=2.0, order=range(7))

    labels = [text.get_text().strip() for text in draw_index(index).axes[3].texts]

    assert labels == ["5 (2 annotated)", "2 (1 annotated)"]


def test_an_empty_index_still_gives_a_figure():
    assert "0 patches" in draw_index(table("patch_index").empty()).get_suptitle()


def test_pictures_count_as_drawn_whatever_the_clock_says(tmp_path):
    """A clock that was set back would make every picture older than its result, and have it drawn for ever."""
    picture = tmp_path / "x.png"
    assert not is_drawn(tmp_path)  # no result at all
    picture.write_bytes(b"of the result before")
    write_stamp(tmp_path, {})
    assert not is_drawn(tmp_path)
    picture.write_bytes(b"drawn")
    os.utime(picture, ns=(0, 0))
    record_drawings(tmp_path)
    assert is_drawn(tmp_path)
    assert not is_drawn(tmp_path, [tmp_path / "another.png"])
    picture.write_bytes(b"dra")
    assert not is_drawn(tmp_path)


@pytest.fixture
def measured(metrics):
    """The same rows at borders and on position's errors, and rows of retrieval."""
    of_scores = metrics[metrics["labels_per_area"] == 0].assign(retrieval_mm=np.nan)
    for number, name in enumerate(("border_macro_f1", "position_errors_corrected")):
        for end in ("", "_low", "_high"):
            of_scores[f"{name}{end}"] = of_scores[f"macro_f1{end}"] * (0.5 + 0.1 * number)
    retrieved = of_scores[["encoder", "labels_per_area", "split", "dataset"]].assign(protocol="retrieval_other_brain")
    retrieved["retrieval_mm"] = np.arange(20.0, 20 + len(retrieved))
    retrieved["retrieval_mm_low"], retrieved["retrieval_mm_high"] = 15.0, 30.0
    retrieved["retrieval_chance_mm"], retrieved["retrieval_best_mm"] = 60.0, 2.0
    return pd.concat([of_scores, retrieved], ignore_index=True)


def test_scores_at_borders_and_errors_corrected_have_a_panel_each(measured):
    axes = draw_borders(measured).axes
    encoders = [t.get_text() for t in axes[0].get_yticklabels()]

    assert [a.get_xlabel() for a in axes] == ["macro F1 at borders", "share of position's errors corrected"]
    for place, column in zip(axes, ("border_macro_f1", "position_errors_corrected"), strict=True):
        drawn = place.containers[1].lines[0].get_xdata()
        unseen = measured.query("protocol == 'linear_E30' and split == 'unseen_brain'").set_index("encoder")[column]
        assert drawn == pytest.approx(unseen[encoders].to_numpy())


def test_retrieval_is_drawn_in_mm_between_its_bounds(measured):
    (axes,) = draw_retrieval(measured).axes
    encoders = [t.get_text() for t in axes.get_yticklabels()]
    rows = measured.query("protocol == 'retrieval_other_brain' and split == 'unseen_brain'").set_index("encoder")

    assert axes.get_title() == "other brain"
    assert axes.containers[1].lines[0].get_xdata() == pytest.approx(rows.loc[encoders, "retrieval_mm"].to_numpy())
    at = {line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1}
    assert {60.0, 2.0} <= at


def test_without_values_there_is_no_figure_and_scores_have_no_panel_of_retrieval(metrics, measured, tmp_path):
    bare = metrics.assign(border_macro_f1=np.nan, position_errors_corrected=np.nan, retrieval_mm=np.nan)

    assert border_figure(bare, tmp_path / "borders.png") is None
    assert retrieval_figure(bare, tmp_path / "retrieval.png") is None
    assert list(tmp_path.iterdir()) == []
    assert [a.get_title() for a in draw_metrics(measured).axes if a.get_title()] == ["linear_E30"]


def test_foreign_text_is_no_formula_in_any_figure(metrics, history, tmp_path):
    """An unbalanced formula would end the whole asset in an error of mathtext."""
    name = "$x_{$ and $"
    predictions = pd.DataFrame({"split": "unseen_brain", "area": [1, 2], "predicted_area": [1, 2]})
    names = NAMES.assign(name=name)
    figures = [
        draw_metrics(metrics.assign(dataset=name, encoder=name)),
        draw_confusion(predictions, names, name),
        draw_curves(history, name),
    ]

    for number, figure in enumerate(figures):
        save(figure, tmp_path / f"{number}.svg")

    assert all(name in (tmp_path / f"{number}.svg").read_text() for number in range(3))
    # Powers of ten on a logarithmic axis are formulas of our own.
    assert "mathdefault" not in re.sub("<!--.*?-->", "", (tmp_path / "2.svg").read_text())


def test_marks_stand_behind_the_names_of_encoders(metrics):
    axes = draw_metrics(metrics, {"demo_random": " (retired)"}).axes[0]

    assert [label.get_text() for label in axes.get_yticklabels()] == ["demo_random (retired)", "demo_cytonet"]
