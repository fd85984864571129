"""An index in parts: the same bytes however it was made, and after a change only what the change touches is redone."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow.dataset
import pyarrow.parquet
import pytest
import tifffile

from cytonet_pipeline.patches import build_index, index, index_brain, read_index, read_index_parameters
from cytonet_pipeline.patches.index_files import part_name
from cytonet_pipeline.store import Store
from cytonet_pipeline_tests.patches.slab import BLOCK, Slab, slab_brain, write_slab_mask

YS_MM = [0.0, 1.0, 1.5, 4.0, 6.0, 6.5, 8.0]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(index, "SECTIONS_IN_PART", 2)


@pytest.fixture
def drawn(monkeypatch) -> list[str]:
    """Samples whose rows are drawn, in any order."""
    seen: list[str] = []
    real = index.section_rows

    def watched(section, ground):
        seen.append(section.sample)
        return real(section, ground)

    monkeypatch.setattr(index, "section_rows", watched)
    return seen


def indexed(folder: Path, slab: Slab, block=BLOCK, **options) -> Path:
    folder.mkdir(parents=True)
    index_brain(folder, *slab.arguments(block), **options)
    return folder


def bytes_of(folder: Path) -> dict[str, str]:
    return {part.name: hashlib.sha256(part.read_bytes()).hexdigest() for part in sorted(folder.glob("part-*"))}


def another_mask(slab: Slab, sample: str) -> None:
    """Replace a section's mask by a coarser one, and its digest as a survey would."""
    k = slab.sections.index[slab.sections["sample"] == sample][0]
    write_slab_mask(slab.brain.sections[k].mask, 3)
    slab.sections.loc[k, "mask_digest"] = "another"


def test_parts_hold_the_rows_of_the_whole_and_what_is_known_of_their_sections(tmp_path):
    slab = slab_brain(tmp_path, YS_MM)
    store = Store(tmp_path / "store")
    indexed(store.patch_index("B01"), slab)

    whole = build_index(*slab.arguments())

    assert [p.name for p in sorted(store.patch_index("B01").iterdir())] == [f"part-{k}.parquet" for k in range(4)]
    assert read_index(store, "B01").equals(whole)
    parameters = read_index_parameters(store, "B01")
    assert parameters["sections"] == json.loads(json.dumps(whole.attrs["sections"]))
    assert parameters["left_out"] == 0
    own = json.loads(pyarrow.parquet.read_schema(store.patch_index("B01") / "part-1.parquet").metadata[b"parameters"])
    assert sorted(own["sections"]) == ["1002", "1003"]


def test_names_of_parts_sort_in_the_order_of_sections():
    assert [part_name(0, 1), part_name(9, 10)] == ["part-0.parquet", "part-9.parquet"]
    names = [part_name(k, 143) for k in range(143)]
    assert names == sorted(names)


def test_the_bytes_are_the_same_whatever_the_number_of_workers(tmp_path):
    slab = slab_brain(tmp_path, YS_MM)

    one, three = (indexed(tmp_path / f"by-{n}", slab, workers=n) for n in (1, 3))

    assert bytes_of(one) == bytes_of(three)
    assert index_brain(one, *slab.arguments()) == index_brain(three, *slab.arguments())


def test_nothing_is_drawn_if_nothing_changed(tmp_path, drawn):
    slab = slab_brain(tmp_path, YS_MM)
    before = indexed(tmp_path / "before", slab)
    drawn.clear()

    after = indexed(tmp_path / "after", slab, earlier=before)

    assert drawn == []
    assert bytes_of(after) == bytes_of(before)


def test_a_changed_mask_redraws_its_own_section_and_gives_what_a_fresh_index_gives(tmp_path, drawn):
    slab = slab_brain(tmp_path, YS_MM)
    before = indexed(tmp_path / "before", slab)
    another_mask(slab, "1002")
    drawn.clear()

    after = indexed(tmp_path / "after", slab, earlier=before)

    assert drawn == ["1002"]
    fresh = indexed(tmp_path / "fresh", slab)
    assert bytes_of(after) == bytes_of(fresh)
    changed = {name for name, digest in bytes_of(after).items() if digest != bytes_of(before)[name]}
    assert changed == {"part-1.parquet"}


def test_a_withdrawn_section_redraws_its_two_neighbours_whose_patches_stay_and_are_joined_by_others(tmp_path, drawn):
    slab = slab_brain(tmp_path, YS_MM)
    before = indexed(tmp_path / "before", slab)
    rows = {s: set(r["patch_id"]) for s, r in build_index(*slab.arguments()).groupby("sample")}
    slab.sections.loc[3, "status"] = "withdrawn"
    drawn.clear()

    after = indexed(tmp_path / "after", slab, earlier=before)

    assert sorted(drawn) == ["1002", "1004"]
    neighbours = set(drawn)
    assert bytes_of(after) == bytes_of(indexed(tmp_path / "fresh", slab))
    for sample, now in build_index(*slab.arguments()).groupby("sample"):
        same = set(now["patch_id"]) == rows[sample]
        assert set(now["patch_id"]) > rows[sample] if sample in neighbours else same


def test_a_section_that_is_placed_anew_redraws_itself_and_its_neighbours(tmp_path, drawn):
    slab = slab_brain(tmp_path, YS_MM)
    before = indexed(tmp_path / "before", slab)
    slab.chain.sections["1003"] = slab_brain(tmp_path, [*YS_MM[:3], 4.2, *YS_MM[4:]]).chain.sections["1003"]
    drawn.clear()

    after = indexed(tmp_path / "after", slab, earlier=before)

    assert sorted(drawn) == ["1002", "1003", "1004"]
    assert bytes_of(after) == bytes_of(indexed(tmp_path / "fresh", slab))


def test_another_split_changes_that_column_without_drawing(tmp_path, drawn):
    slab = slab_brain(tmp_path, YS_MM)
    before = indexed(tmp_path / "before", slab)
    drawn.clear()
    block = BLOCK.model_copy(update={"held_out": "B01"})

    after = indexed(tmp_path / "after", slab, block, earlier=before)

    assert drawn == []
    assert bytes_of(after) == bytes_of(indexed(tmp_path / "fresh", slab, block))
    assert set(pyarrow.dataset.dataset(after).to_table()["split"].to_pylist()) == {"unseen_brain"}


@pytest.mark.parametrize("change", [{"density_per_mm3": 6}, {"seed": 1}, {"patch_um": 1000}, {"sampling": "midline"}])
def test_other_settings_of_the_sampling_redraw_every_section(tmp_path, drawn, change):
    slab = slab_brain(tmp_path, YS_MM)
    before = indexed(tmp_path / "before", slab)
    block = BLOCK.model_copy(update=change)
    drawn.clear()

    after = indexed(tmp_path / "after", slab, block, earlier=before)

    assert len(drawn) == len(YS_MM)
    assert bytes_of(after) == bytes_of(indexed(tmp_path / "fresh", slab, block))


def test_a_section_that_could_not_be_drawn_is_tried_again(tmp_path, drawn):
    slab = slab_brain(tmp_path, YS_MM)
    mask = slab.brain.sections[1].mask
    kept = mask.read_bytes()
    mask.unlink()
    before = indexed(tmp_path / "before", slab)
    mask.write_bytes(kept)
    drawn.clear()

    after = indexed(tmp_path / "after", slab, earlier=before)

    assert drawn == ["1001"]
    assert bytes_of(after) == bytes_of(indexed(tmp_path / "fresh", slab))


def test_a_damaged_part_is_made_again(tmp_path, drawn):
    slab = slab_brain(tmp_path, YS_MM)
    before = indexed(tmp_path / "before", slab)
    part = before / "part-2.parquet"
    part.write_bytes(part.read_bytes()[:1000])
    drawn.clear()

    after = indexed(tmp_path / "after", slab, earlier=before)

    assert sorted(drawn) == ["1004", "1005"]
    assert bytes_of(after) == bytes_of(indexed(tmp_path / "fresh", slab))


def test_a_changed_section_leaves_another_brain_to_the_byte(tmp_path):
    """Both brains belong to one data set; the files of the other one are made again afterwards."""
    (tmp_path / "masks").mkdir()
    slab, other = slab_brain(tmp_path / "masks", YS_MM), slab_brain(tmp_path / "masks", YS_MM, name="B02")
    first = bytes_of(indexed(tmp_path / "other", other))
    own = bytes_of(indexed(tmp_path / "own", slab))
    another_mask(slab, "1002")

    assert bytes_of(indexed(tmp_path / "own-again", slab)) != own
    assert bytes_of(indexed(tmp_path / "other-again", other)) == first


def test_a_new_annotation_changes_the_annotated_areas_of_its_section_alone(tmp_path, drawn):
    slab = slab_brain(tmp_path, YS_MM)
    before = indexed(tmp_path / "before", slab)
    tifffile.imwrite(slab.brain.sections[2].annotation, np.full((14, 20), 12, np.uint16))
    slab.sections.loc[2, "annotation_digest"] = "another"
    drawn.clear()

    after = pyarrow.dataset.dataset(indexed(tmp_path / "after", slab, earlier=before)).to_table().to_pandas()

    assert drawn == ["1002"]
    assert set(after.loc[after["sample"] == "1002", "annotated_area"]) == {12}
    assert set(after.loc[after["sample"] == "1003", "annotated_area"]) == {3, 300}
