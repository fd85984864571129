"""Pictures and tables as Markdown."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cytonet_pipeline.reporting.markdown import metrics_markdown, picture
from cytonet_pipeline.reporting.style import new_figure, panels


def decoded(markdown):
    found = re.fullmatch(r"!\[(.*)\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)", markdown)
    return found[1], Image.open(io.BytesIO(base64.b64decode(found[2])))


@pytest.fixture
def noisy(tmp_path):
    """Noise does not compress: 1.4 MB as PNG."""
    pixels = np.random.default_rng(0).integers(0, 255, (600, 800, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    return tmp_path / "noise.png"


@pytest.mark.parametrize("limit", [200_000, 30_000])
def test_a_picture_shrinks_until_its_text_fits(noisy, limit):
    """Dagster cuts off longer metadata, and half a picture is not shown at all."""
    markdown = picture(noisy, max_bytes=limit)
    name, image = decoded(markdown)

    assert len(markdown.encode()) <= limit
    assert image.format == "PNG"
    assert name == "noise"
    assert image.width / image.height == pytest.approx(1600 / 1200, rel=0.02)


def test_a_small_picture_keeps_its_size(tmp_path):
    Image.new("RGB", (300, 200), "white").save(tmp_path / "small.png")

    assert decoded(picture(tmp_path / "small.png"))[1].size == (300, 200)


def test_a_figure_is_a_picture_under_its_title():
    figure = new_figure("loss [a.u.]", 5, 3)
    panels(figure, 1, 1)[0].plot([0, 1], [1, 0])

    name, image = decoded(picture(figure))

    assert name == "loss (a.u.)"
    assert image.size == (600, 360)


def test_a_limit_that_nothing_fits_is_refused(noisy):
    with pytest.raises(ValueError, match="500 bytes"):
        picture(noisy, max_bytes=500)


@pytest.fixture
def metrics():
    rows = []
    for split, value in (("seen_brains", 0.5), ("unseen_brain", 0.25)):
        rows.append({"protocol": "linear_E30", "labels_per_area": 0, "split": split, "macro_f1": value})
        rows += [
            {"protocol": "logistic", "labels_per_area": 10, "split": split, "macro_f1": value + step}
            for step in (-0.1, 0.1)
        ]
    frame = pd.DataFrame(rows).assign(encoder="demo", dataset="phantom")
    frame["macro_f1_low"], frame["macro_f1_high"] = frame["macro_f1"] - 0.05, frame["macro_f1"] + 0.05
    frame.loc[frame["split"] == "unseen_brain", ["macro_f1_low", "macro_f1_high"]] = np.nan
    return frame


def test_the_table_has_seen_beside_unseen(metrics):
    lines = metrics_markdown(metrics, ("macro_f1",)).splitlines()

    assert lines[0] == "| encoder | protocol | labels per area | macro F1, seen | macro F1, unseen |"
    assert lines[2] == "| demo | linear_E30 | all | 0.500 (0.450–0.550) | 0.250 |"


def test_draws_are_averaged_with_their_spread(metrics):
    assert "0.500 ± 0.141 (2 draws)" in metrics_markdown(metrics, ("macro_f1",))


def test_every_line_has_as_many_cells(metrics):
    lines = metrics_markdown(metrics, ("macro_f1",)).splitlines()

    assert {line.count("|") for line in lines} == {6}


def test_an_unknown_score_is_refused(metrics):
    with pytest.raises(ValueError, match="f2"):
        metrics_markdown(metrics, ("f2",))
