"""What stands on an asset's page, and in which order."""

import dagster as dg

from cytonet_pipeline.defs.materialize import described
from cytonet_pipeline.defs.metadata import numbers
from cytonet_pipeline.stages import Summary


def test_the_first_figures_are_entries_and_the_others_one_table():
    shown = numbers({"version": "abc", "score": 0.123456, "patches": 12, "usable": True, "loss": 2.0}, most=3)

    assert list(shown) == ["version", "score", "patches", "further figures"]
    assert [shown[name].value for name in ("version", "score", "patches")] == ["abc", 0.1235, 12]
    assert [record.data for record in shown["further figures"].records] == [
        {"figure": "usable", "value": "True"},
        {"figure": "loss", "value": "2.0"},
    ]


def test_what_is_not_known_is_left_out_and_lists_are_sentences():
    """Raw JSON with line breaks in it, and cells of nan, were what a page showed."""
    shown = numbers({
        "nan": float("nan"),
        "none": None,
        "warnings": [],
        "left out": {"B_02": "not released\nask its group", "B03": "no transform"},
        "shares": {"B01": 0.333333},
        "problems": ["collapsed: *all* features are the same"],
    })  # fmt: skip

    assert {name: entry.value for name, entry in shown.items()} == {
        "left out": "* B_02: not released\n\n  ```\n  ask its group\n  ```\n* B03: no transform",
        "shares": "* B01: 0.3333",
        "problems": r"* collapsed: \*all\* features are the same",
    }


def test_what_was_done_and_what_is_wrong_come_first(tmp_path):
    result = described(
        Summary(tmp_path, "digest", status="failed", reasons=("no transform",), numbers={"sections": 3}), "nothing"
    )

    assert list(result.metadata) == ["what was done", "status", "what is wrong", "sections", "folder"]
    assert result.metadata["status"].startswith("FAILED")
    assert result.metadata["what is wrong"] == dg.MetadataValue.md("* no transform")
