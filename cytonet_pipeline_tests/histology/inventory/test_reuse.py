"""A repeated inventory opens the sections that have changed, and no others."""

import importlib
import os

import numpy as np
import pandas as pd
import pytest

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.histology import read_inventory, survey, take_inventory, write_pictures
from cytonet_pipeline.settings import DatasetBlock
from cytonet_pipeline.store import write_table
from cytonet_pipeline_tests.dataset.tiny import SAMPLES, TinyDataset, section_picture
from cytonet_pipeline_tests.histology.formats.zarrs import write_ome_zarr


@pytest.fixture
def tiny(tmp_path):
    return TinyDataset(tmp_path / "brains").write()


@pytest.fixture
def opened(monkeypatch):
    """Names of the scans that were opened."""
    module = importlib.import_module("cytonet_pipeline.histology.inventory.survey")
    seen, really = [], module.examine

    def watched(sections, *arguments):
        seen.extend(section.scan.name for section in sections)
        return really(sections, *arguments)

    monkeypatch.setattr(module, "examine", watched)
    return seen


def inventory(tiny, earlier=None, **options):
    block = DatasetBlock(density_per_mm3=1, held_out="B01", **options)
    return take_inventory(Dataset(tiny.root, block).brain("B01"), block, earlier)


def stored(found, folder):
    folder.mkdir(exist_ok=True)
    write_table(folder / "sections.parquet", found.rows, "section_scans")
    write_pictures(folder, found.pictures)
    return read_inventory(folder)


def touched(path):
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 10_000_000))


CHANGES = {
    "scan": lambda tiny: tiny.write_scan("0020", shift=1),
    "mask": lambda tiny: touched(tiny.mask("0020")),
    "pixel size": lambda tiny: (
        tiny.scan("0020").with_suffix(".json").write_text('{"PixelSize": 50, "PixelSizeUnits": "um"}')
    ),
    "matrix": lambda tiny: tiny.write_matrices([r | {"m23": r["m23"] + (i == 1)} for i, r in enumerate(tiny.rows())]),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_only_the_section_that_changed_is_opened_again(change, tiny, tmp_path, opened):
    earlier = stored(inventory(tiny), tmp_path / "store")
    opened.clear()
    CHANGES[change](tiny)

    again = inventory(tiny, earlier)

    assert opened == [tiny.scan("0020").name]
    afresh = inventory(tiny)
    pd.testing.assert_frame_equal(again.rows, afresh.rows)
    assert {s: p.tolist() for s, p in again.pictures.items()} == {s: p.tolist() for s, p in afresh.pictures.items()}


def test_nothing_is_opened_where_nothing_has_changed(tiny, tmp_path, opened):
    earlier = stored(inventory(tiny), tmp_path / "store")
    opened.clear()

    again = inventory(tiny, earlier)

    assert opened == []
    pd.testing.assert_frame_equal(again.rows, earlier.rows[again.rows.columns], check_dtype=False)


@pytest.mark.parametrize("version", [2, 3])
def test_an_ome_zarr_is_taken_in_like_a_tiff_and_opened_again_only_after_a_change(version, tiny, tmp_path, opened):
    as_tiff = inventory(tiny)
    path = tiny.scan("0020").with_suffix(".ome.zarr")
    levels = [section_picture(seed=20), section_picture(seed=20)[::2, ::2]]
    tiny.scan("0020").unlink()
    tiny.scan("0020").with_suffix(".json").unlink()
    write_ome_zarr(path, levels, version=version, um=100.0)
    opened.clear()

    found = inventory(tiny)
    earlier = stored(found, tmp_path / "store")
    inventory(tiny, earlier)

    row, before = (i.rows.set_index("sample").loc["0020"] for i in (found, as_tiff))
    assert (row["status"], row["reason"], row["levels"], row["pixel_um"]) == ("ok", "", 2, 100.0)
    alike = ["width_px", "height_px", "bits", "background", "tissue_fraction", "focus", "mask_digest", "gap_mm"]
    assert row[alike].tolist() == before[alike].tolist()
    assert row["path"] == f"sub-B01/micr/{path.name}"
    assert np.array_equal(found.pictures["0020"], as_tiff.pictures["0020"])
    assert opened.count(path.name) == 1

    write_ome_zarr(path, [255 - level for level in levels], version=version, um=100.0)
    again = inventory(tiny, earlier).rows.set_index("sample").loc["0020"]
    assert opened.count(path.name) == 2
    assert again["digest"] != row["digest"]


def test_a_setting_that_changes_the_pixels_opens_all(tiny, tmp_path, opened):
    earlier = stored(inventory(tiny), tmp_path / "store")
    opened.clear()

    for setting in ({"window": (0, 200)}, {"invert": False}, {"mask_value": 1}):
        opened.clear()
        inventory(tiny, earlier, **setting)
        assert len(opened) == len(SAMPLES)


def test_rejected_sections_are_opened_again(tiny, tmp_path, opened):
    """The reason may have been the disk."""
    whole = tiny.scan("0020").read_bytes()
    tiny.scan("0020").write_bytes(whole[:600])
    earlier = stored(inventory(tiny), tmp_path / "store")
    assert earlier.rows["status"].tolist() == ["ok", "rejected", "ok"]
    opened.clear()

    inventory(tiny, earlier)

    assert opened == [tiny.scan("0020").name]


def test_a_table_of_the_previous_version_is_read_but_not_used_again(tiny, tmp_path, opened):
    import pyarrow.parquet

    folder = tmp_path / "store"
    stored(inventory(tiny), folder)
    path = folder / "sections.parquet"
    table = pyarrow.parquet.read_table(path).drop_columns(["inputs", "findings", "remarks", "staining"])
    metadata = {**table.schema.metadata, b"schema_version": b"1"}
    pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), path)
    opened.clear()

    earlier = read_inventory(folder)
    inventory(tiny, earlier)

    assert earlier.rows["staining"].isna().all()
    assert earlier.rows["sample"].tolist() == list(SAMPLES)
    assert len(opened) == len(SAMPLES)


def test_damaged_thumbnails_only_cost_time(tiny, tmp_path):
    folder = tmp_path / "store"
    found = inventory(tiny)
    stored(found, folder)
    (folder / "thumbnails.npz").write_bytes(b"damaged")

    assert read_inventory(folder) is None


def test_a_thumbnail_shows_the_section(tiny):
    picture = inventory(tiny).pictures["0010"]

    assert picture.shape == (120, 160)
    assert picture[60, 70] < 200 < picture[2, 2]
    assert np.issubdtype(picture.dtype, np.uint8)


def test_the_survey_is_the_table_of_the_inventory(tiny):
    block = DatasetBlock(density_per_mm3=1, held_out="B01")
    brain = Dataset(tiny.root, block).brain("B01")

    pd.testing.assert_frame_equal(survey(brain, block), take_inventory(brain, block).rows)
