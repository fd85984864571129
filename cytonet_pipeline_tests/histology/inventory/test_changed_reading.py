"""What the survey says of files that leave something open, and which stored rows stay valid when readers change."""

import importlib
import json

import numpy as np
import pytest
import tifffile

from cytonet_pipeline.dataset import Dataset, Pick
from cytonet_pipeline.histology import sections_read_otherwise, survey, take_inventory
from cytonet_pipeline.histology.inventory.reuse import inputs_digest
from cytonet_pipeline.learning.data.scans import SectionScans
from cytonet_pipeline.settings import DatasetBlock
from cytonet_pipeline_tests.dataset.tiny import TinyDataset, section_picture


@pytest.fixture
def tiny(tmp_path) -> TinyDataset:
    return TinyDataset(tmp_path / "brains").write()


def opened(tiny, **options):
    block = DatasetBlock(density_per_mm3=1, held_out="B01", **options)
    return Dataset(tiny.root, block).brain("B01"), block


def rows(tiny, **options):
    return survey(*opened(tiny, **options)).set_index("sample")


def rewrite(tiny, **options):
    """Write the scan 0020 anew, without its sidecar."""
    tiny.scan("0020").with_suffix(".json").unlink()
    tifffile.imwrite(tiny.scan("0020"), section_picture(), metadata=None, **options)


@pytest.mark.parametrize(
    ("resolution", "unit", "um"),
    [((72, 72), "INCH", "352.8"), ((96, 96), "INCH", "264.6"), ((10, 10), "CENTIMETER", "1000")],
)
def test_a_placeholder_for_the_resolution_is_not_believed(resolution, unit, um, tiny):
    rewrite(tiny, resolution=resolution, resolutionunit=unit)

    row = rows(tiny).loc["0020"]

    assert row["status"] == "rejected"
    assert f"its pixels would be {um} µm wide" in row["reason"]
    assert "write PixelSize" in row["reason"]
    assert "plausible_pixel_um" in row["reason"]


def test_the_bounds_are_a_setting_and_hold_for_every_source(tiny):
    """In this data set the sidecars say 100 µm."""
    assert (rows(tiny)["status"] == "ok").all()
    assert (rows(tiny, plausible_pixel_um=(0.1, 50.0))["status"] == "rejected").all()

    rewrite(tiny, resolution=(72, 72), resolutionunit="INCH")
    assert rows(tiny, plausible_pixel_um=(0.1, 400.0)).loc["0020", "status"] != "rejected"


def test_a_plausible_size_that_programs_also_write_without_knowing_it_is_flagged(tiny):
    rewrite(tiny, resolution=(300, 300), resolutionunit="INCH")
    row = rows(tiny).loc["0020"]
    assert "resolution tags of 300 dpi alone" in row["reason"]

    tiny.scan("0020").with_suffix(".json").write_text(json.dumps({"PixelSize": 84.67, "PixelSizeUnits": "um"}))
    assert "dpi" not in rows(tiny).loc["0020", "reason"]


@pytest.mark.parametrize(("size", "unit"), [("1", "pixel"), ("0,5", "µm"), ("-3", "µm")])
@pytest.mark.parametrize("tags", [True, False])
def test_an_ome_size_that_is_not_understood_is_said(size, unit, tags, tiny):
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
        f'DimensionOrder="XYCZT" Type="uint8" SizeX="160" SizeY="120" SizeC="1" SizeZ="1" SizeT="1" '
        f'PhysicalSizeX="{size}" PhysicalSizeXUnit="{unit}" PhysicalSizeY="{size}" PhysicalSizeYUnit="{unit}">'
        '<TiffData IFD="0"/></Pixels></Image></OME>'
    )
    resolution = {"resolution": (100, 100), "resolutionunit": "CENTIMETER"} if tags else {"resolutionunit": "NONE"}
    rewrite(tiny, description=xml.encode(), **resolution)

    row = rows(tiny).loc["0020"]

    assert row["status"] == ("flagged" if tags else "rejected")
    assert f"{size} {unit} × {size} {unit}" in row["reason"]


def test_an_angstrom_is_a_unit(tiny):
    metadata = {"axes": "YX", "PhysicalSizeX": 1e6, "PhysicalSizeXUnit": "Å", "PhysicalSizeY": 100.0}
    tiny.scan("0020").with_suffix(".json").unlink()
    tifffile.imwrite(tiny.scan("0020"), section_picture(), ome=True, metadata=metadata)

    assert rows(tiny).loc["0020", "pixel_um"] == pytest.approx(100)


def test_files_that_are_read_as_ever_keep_their_rows(tiny):
    brain, block = opened(tiny)

    assert sections_read_otherwise(brain, block) == []


def test_only_the_section_that_is_read_otherwise_is_surveyed_again(tiny, monkeypatch):
    with tifffile.TiffWriter(tiny.scan("0020")) as writer:
        writer.write(section_picture()[::4, ::4], metadata=None)
        writer.write(section_picture(), metadata=None)
    brain, block = opened(tiny)
    assert sections_read_otherwise(brain, block) == ["0020"]

    # What an inventory of an earlier release recorded: no word of how files are read.
    now = {section.sample: inputs_digest(section, brain, block) for section in brain.sections}
    module = importlib.import_module("cytonet_pipeline.histology.inventory.reuse")
    monkeypatch.setattr(module, "read_otherwise", lambda *_: [])
    before = {section.sample: inputs_digest(section, brain, block) for section in brain.sections}

    assert [sample for sample in now if now[sample] != before[sample]] == ["0020"]


def test_a_section_table_picks_the_page_and_training_reads_the_same(tiny):
    """Two sections in one file, which is refused as long as nothing says which is meant."""
    other = np.ascontiguousarray(section_picture()[::-1])
    with tifffile.TiffWriter(tiny.root / "both.tif") as writer:
        for picture in (section_picture(), other):
            writer.write(picture, metadata=None)
    path = tiny.root / "derivatives/sections/sub-B01/sub-B01_sections.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["sample_id\tsection\tscan\tpixel_size_um\tmask\tannotation\tpage"]
    lines += [
        f"{s}\t{int(s)}\tboth.tif\t100\tn/a\tn/a\t{page}" for s, page in (("0010", 0), ("0020", 1), ("0030", "n/a"))
    ]
    path.write_text("\n".join(lines))

    brain, block = opened(tiny)
    found = take_inventory(brain, block).rows.set_index("sample")

    assert found["status"].tolist()[:2] != ["rejected", "rejected"]
    assert found.loc["0030", "status"] == "rejected"
    assert "holds 2 images" in found.loc["0030", "reason"]
    assert found.loc["0020", "path"] == "both.tif#page=1"
    assert found.loc["0010", "digest"] != found.loc["0020", "digest"]
    scans = SectionScans(tiny.root, found.reset_index().assign(brain="B01"))
    with scans("B01", "0020") as scan:
        np.testing.assert_array_equal(scan.read_patch(40, 40, 16, 100.0), other[32:48, 32:48])
    assert [section.pick for section in brain.sections] == [Pick(page=0), Pick(page=1), Pick()]


@pytest.mark.parametrize(("series", "page", "what"), [("one", "n/a", "series 'one'"), ("1", "2", "series and page")])
def test_a_pick_that_is_none_rejects_its_section(series, page, what, tiny):
    path = tiny.root / "derivatives/sections/sub-B01/sub-B01_sections.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    scan = tiny.scan("0010").relative_to(tiny.root)
    path.write_text(f"sample_id\tscan\tseries\tpage\n0010\t{scan}\t{series}\t{page}\n")

    assert what in rows(tiny).loc["0010", "reason"]
