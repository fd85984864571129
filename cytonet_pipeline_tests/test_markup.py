"""Text of people in Markdown is shown as it is; markdown-it, which rich and Jupyter use, is the judge."""

import re

import pytest
from markdown_it import MarkdownIt

from cytonet_pipeline.markup import from_markdown, in_markdown

NASTY = [
    "demo_cytonet", "_a_", "__b__", "*x* and **y**", "`code`", "[name](http://x)", "![i](j)", "<b>bold</b>", "a | b",
    "&amp;", "~~gone~~", r"C:\\brains\\*", "$x_{$", "# no heading", "- no item", "1. no list", "> no quote",
    "[0.1, 0.2]", "two\nlines", "+1", "=", "2) b", "12. c", "---",
]  # fmt: skip


@pytest.mark.parametrize("text", NASTY)
def test_what_was_typed_is_what_is_shown(text):
    shown = MarkdownIt("gfm-like", {"linkify": False}).enable("table").render(in_markdown(text))

    plain = re.fullmatch(r"<p>(.*)</p>\n", shown)
    assert plain, shown
    escaped = text.replace("\n", " ").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert plain[1] == escaped


@pytest.mark.parametrize("text", NASTY)
def test_plain_text_is_found_again(text):
    assert from_markdown(in_markdown(text)) == text.replace("\n", " ")


@pytest.mark.parametrize("text", NASTY)
def test_a_cell_of_a_table_stays_one_cell(text):
    page = f"| a | b |\n| --- | --- |\n| {in_markdown(text)} | end |\n"

    shown = MarkdownIt("gfm-like", {"linkify": False}).render(page)

    assert shown.count("<td>") == 2
    assert "<td>end</td>" in shown


def test_names_of_encoders_and_intervals_stay_readable_in_the_source():
    for text in ("demo_cytonet 0.512 [0.480–0.540]", "0.043", "+0.250 [-0.1, 0.6]", "-0.250"):
        assert in_markdown(text) == text
