"""Copies: a scan under two names is refused, with both names."""

import pandas as pd
import pytest

from cytonet_pipeline.errors import TrainingError
from cytonet_pipeline.lineage import resolve_training_set
from cytonet_pipeline.lineage.copies import copies_in, describe_copies, leaking_copies, require_no_copies


def sections(*rows):
    return pd.DataFrame(rows, columns=["brain", "sample", "digest", "role"])


def test_a_copy_of_the_unseen_brain_is_leakage_that_names_both(world):
    """Splits go by names; only the scans show that the same brain is on both sides."""
    world.bring_in("B03")
    world.slabs["B03"].sections["digest"] = world.slabs["B20"].sections["digest"].to_numpy()
    world.bring_in("B03")

    with pytest.raises(TrainingError, match="B03 and B20 have 12 scans in common: B03/1000 = B20/1000") as caught:
        resolve_training_set("one", world.settings, world.store)

    assert "trained on what it is tested on" in str(caught.value)
    assert "participants.tsv" in caught.value.to_fix


def test_a_copied_section_of_the_same_brain_is_refused(world):
    world.slabs["B01"].sections.loc[3, "digest"] = world.slabs["B01"].sections.loc[7, "digest"]
    world.bring_in("B01")

    with pytest.raises(TrainingError, match="B01 has 1 scan under two names: B01/1003 = B01/1007"):
        resolve_training_set("one", world.settings, world.store)


def test_a_copy_that_is_not_released_does_no_harm(world):
    world.bring_in("B03")
    world.slabs["B03"].sections["digest"] = world.slabs["B20"].sections["digest"].to_numpy()
    world.bring_in("B03")
    world.release("B03", "copy of B20")

    assert resolve_training_set("one", world.settings, world.store)[0].record["brains"] == ["B01", "B02", "B20"]


def test_only_copies_across_the_border_leak_but_all_are_named():
    rows = sections(
        ("B01", "1", "a", "train"),
        ("B01", "2", "b", "train"),
        ("B02", "1", "a", "train"),
        ("B20", "9", "b", "unseen_brain"),
        ("B20", "8", None, "unseen_brain"),
        ("B01", "3", None, "train"),
    )

    assert copies_in(rows) == {("B01", "B02"): [("B01/1", "B02/1")], ("B01", "B20"): [("B01/2", "B20/9")]}
    assert leaking_copies(rows) == ["B20/9"]


def test_many_copies_are_counted_and_a_few_named():
    rows = sections(*((brain, f"{k}", f"{k}", "train") for brain in ("B01", "B02") for k in range(9)))

    assert describe_copies(rows) == ["B01 and B02 have 9 scans in common: B01/0 = B02/0, B01/1 = B02/1, B01/2 = B02/2"
                                     " and 6 more."]  # fmt: skip
    with pytest.raises(TrainingError, match="They would count twice"):
        require_no_copies("one", rows)
