"""Rows of an earlier release that are made again although their files have not changed, and those that are kept."""

import importlib

import numpy as np
import pytest
import tifffile

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.histology import Inventory, sections_to_examine_again, take_inventory, without
from cytonet_pipeline.histology.inventory.reuse import inputs_digest
from cytonet_pipeline.settings import DatasetBlock
from cytonet_pipeline_tests.dataset.tiny import TinyDataset, ring, section_picture

# As in stores of 0.2.1, nothing is stated on how grey values or masks are meant.
BLOCK = DatasetBlock(density_per_mm3=1, held_out="B01")


@pytest.fixture
def tiny(tmp_path) -> TinyDataset:
    return TinyDataset(tmp_path / "brains").write()


def taken_in(tiny, pictures):
    """Return the brain, and its inventory as a release made it that took every file of now in."""
    brain = Dataset(tiny.root, BLOCK).brain("B01")
    inventory = take_inventory(brain, BLOCK)
    rows = inventory.rows.assign(
        inputs=[inputs_digest(section, brain, BLOCK) for section in brain.sections], status="ok", reason="", remarks=""
    )
    bits = [tifffile.imread(section.scan).dtype.itemsize * 8 for section in brain.sections]
    return brain, Inventory(rows.assign(bits=bits), inventory.pictures | pictures)


def scan_of(tiny, sample, picture, **options):
    tifffile.imwrite(tiny.scan(sample), picture, metadata=None, **options)


def test_sound_rows_are_kept(tiny):
    brain, earlier = taken_in(tiny, {})

    assert sections_to_examine_again(earlier, brain, BLOCK) == []


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda tiny: scan_of(tiny, "0020", 255 - section_picture()), "light on dark"),
        (lambda tiny: scan_of(tiny, "0020", section_picture().astype(np.uint16) * 2), "uses the grey values"),
        (lambda tiny: tifffile.imwrite(tiny.mask("0020"), ring() + np.uint8(1), metadata=None), "no pixel is 0"),
    ],
)
def test_what_would_be_refused_now_is_examined_again_and_nothing_else(tiny, spoil, reason, monkeypatch):
    spoil(tiny)
    stored = tifffile.imread(tiny.scan("0020"))
    picture = (stored // 256 if stored.dtype == np.uint16 else stored).astype(np.uint8)
    brain, earlier = taken_in(tiny, {"0020": picture})
    module = importlib.import_module("cytonet_pipeline.histology.inventory.survey")
    examined = []
    examine = module.examine
    monkeypatch.setattr(
        module, "examine", lambda sections, *rest: examined.extend(sections) or examine(sections, *rest)
    )
    assert set(take_inventory(brain, BLOCK, earlier).rows["status"]) == {"ok"}
    assert examined == []

    again = sections_to_examine_again(earlier, brain, BLOCK)
    rows = take_inventory(brain, BLOCK, without(earlier, again)).rows.set_index("sample")

    assert again == [section.sample for section in examined] == ["0020"]
    assert rows.loc["0020", "status"] == "rejected"
    assert reason in rows.loc["0020", "reason"]
    assert (rows.drop(index="0020")["status"] == "ok").all()


def test_a_mask_whose_cortex_is_named_is_not_looked_at_again(tiny):
    tifffile.imwrite(tiny.mask("0020"), ring() + np.uint8(1), metadata=None)
    block = BLOCK.model_copy(update={"mask_value": 2})
    _, earlier = taken_in(tiny, {})

    assert sections_to_examine_again(earlier, Dataset(tiny.root, block).brain("B01"), block) == []
    assert sections_to_examine_again(earlier, Dataset(tiny.root, BLOCK).brain("B01"), BLOCK) == ["0020"]
