"""How people spell brains and sections, and which names they may have meant."""

import pytest

from cytonet_pipeline.names import bare, bare_brain, describe_known, split_section


def test_prefixes_are_accepted_and_taken_off():
    assert bare_brain("sub-B20") == bare_brain("B20") == "B20"
    assert bare("sample-1786", "sample") == bare(" 1786 ", "sample") == "1786"


@pytest.mark.parametrize("text", ["B02/4058", "sub-B02/4058", "B02/sample-4058", "sub-B02/sample-4058", " B02 / 4058 "])
def test_a_section_has_one_name_however_it_is_spelt(text):
    assert split_section(text) == ("B02", "4058")


@pytest.mark.parametrize("text", ["B02", "B02/", "/4058", "B02/4058/1", "", "sub-/sample-"])
def test_what_is_no_section_is_not_taken_for_one(text):
    assert split_section(text) is None


def test_near_names_are_listed_whatever_their_case():
    assert describe_known("b02", ["B02", "b02x", "P77"]).startswith("near it: B02")
    assert describe_known("demo_cytonett", ["demo_cytonet", "demo_random"]) == "near it: demo_cytonet"


def test_without_a_near_name_all_are_listed_up_to_a_dozen():
    assert describe_known("xyz", ["B01", "B02"]) == "it has B01, B02"
    assert describe_known("xyz", [f"B{k:02d}" for k in range(40)]).endswith("B11 and 28 more")
    assert describe_known("xyz", []) == "it has none"
