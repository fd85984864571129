"""The lineage page opens without a network, shows each section with its role, and takes no text for markup."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from cytonet_pipeline.reporting.lineage_page import Box, LineagePage, write_lineage_page

NASTY = "</script><script>alert(1)</script><b>&\"'"


def page(sections, thumbnails=None):
    steps = [[Box(f"{len(sections)} sections", [NASTY])], [Box("features"), Box("UMAP", ["computed"])]]
    return LineagePage(f"one@{NASTY}", "Learned.", "As of today.", [NASTY], steps, sections, thumbnails or {})


def sections_of(brain, roles, since=()):
    rows = [
        {"brain": brain, "sample": f"{n:04d}", "section": n, "role": role, "n_training_patches": 7 * (role == "train")}
        for n, role in enumerate(roles)
    ]
    return pd.DataFrame(rows).assign(since=[dict(since).get(n, "") for n in range(len(rows))])


def data_in(text):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


def test_every_section_is_there_with_role_patches_and_what_happened(tmp_path):
    sections = sections_of("B01", ["train", "gap", "seen_brains", "validation"], [(2, f"withdrawn: {NASTY}")])
    pictures = {("B01", "0001"): np.full((40, 60), 128, np.uint8)}

    text = write_lineage_page(tmp_path / "page.html", page(sections, pictures)).read_text()

    data = data_in(text)
    (brain,) = data["brains"]
    assert brain["samples"] == ["0000", "0001", "0002", "0003"]
    assert brain["roles"] == "0421", "as the legend numbers them"
    assert brain["patches"] == [7, 0, 0, 0]
    assert {place: data["texts"][text] for place, text in brain["since"].items()} == {"2": f"withdrawn: {NASTY}"}
    assert list(brain["thumbs"]) == ["1"]
    assert brain["note"] == "3 without a picture"
    assert {role["key"]: role["count"] for role in data["roles"]}["unseen_brain"] == 0
    assert data["changed"] == 1


def test_text_is_never_markup_and_nothing_is_loaded(tmp_path):
    text = write_lineage_page(tmp_path / "page.html", page(sections_of(NASTY, ["train"], [(0, NASTY)]))).read_text()

    assert "<script>alert" not in text
    assert text.count("<script") == 2
    assert text.count("</script>") == 2
    assert text.count(html.escape(NASTY)) == 4, "title twice, note and box"
    assert not re.search(r'(src|href)\s*=\s*["\']?(https?:)?//|url\(|@import|https?:', text)
    assert "default-src 'none'" in text


@pytest.mark.long
def test_a_hundred_brains_of_seven_thousand_sections_stay_below_15_mb(tmp_path):
    roles = ["train", "gap", "seen_brains", "validation", "train", "train", "train"] * 1000
    one = sections_of("B000", roles)
    sections = pd.concat([one.assign(brain=f"B{n:03d}") for n in range(100)], ignore_index=True)
    noise = np.random.default_rng(0).integers(0, 255, (96, 96), dtype=np.uint8)
    pictures = {("B000", sample): noise for sample in one["sample"]}

    path = write_lineage_page(tmp_path / "page.html", page(sections, pictures))

    assert path.stat().st_size < 15e6
    assert "without a picture" in data_in(path.read_text())["brains"][0]["note"]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium on this machine")
@pytest.mark.long
def test_a_browser_draws_the_strips_and_shows_text_as_text(tmp_path):
    sections = sections_of(NASTY, ["train", "gap"], [(1, NASTY)])
    path = write_lineage_page(tmp_path / "page.html", page(sections))

    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]
    dumped = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=120).stdout

    assert '<div class="brain"><h3>&lt;/script&gt;' in dumped
    assert "<canvas" in dumped
    assert "training (1)" in dumped
    assert "alert(1)</script><b>" not in dumped.partition('id="brains"')[2].partition("<script")[0]
