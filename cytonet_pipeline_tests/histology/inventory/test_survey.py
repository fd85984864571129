"""The inventory: every section has a row, a bad one with its reason, and none stops the others."""

import importlib
import json
import os

import numpy as np
import pytest
import tifffile

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.histology import open_scan, scan_digest, survey
from cytonet_pipeline.histology.quality.measures import measure_quality
from cytonet_pipeline.settings import DatasetBlock
from cytonet_pipeline.store import digest_file
from cytonet_pipeline_tests.dataset.tiny import TinyDataset, ring, section_picture


@pytest.fixture
def tiny(tmp_path) -> TinyDataset:
    return TinyDataset(tmp_path / "brains").write()


def surveyed(tiny, **options):
    block = DatasetBlock(density_per_mm3=1, held_out="B01", **options)
    return survey(Dataset(tiny.root, block).brain("B01"), block).set_index("sample")


def test_a_sound_section_is_described(tiny):
    row = surveyed(tiny).loc["0010"]

    assert (row["status"], row["reason"]) == ("ok", "")
    assert (row["width_px"], row["height_px"], row["levels"], row["bits"]) == (160, 120, 1, 8)
    assert (row["pixel_um"], row["compression"], row["background"]) == (100.0, "Deflate", 235.0)
    assert row["tissue_fraction"] == pytest.approx((section_picture() < 200).mean(), abs=0.01)
    assert row["digest"] == scan_digest(tiny.scan("0010"))
    assert row["mask_digest"] == digest_file(tiny.mask("0010"))
    assert row["annotation_path"] == "derivatives/annotation/sub-B01/micr/sub-B01_sample-0010_desc-areas_dseg.tif"
    assert row["path"] == "sub-B01/micr/sub-B01_sample-0010_stain-merker_BF.tif"


def rejected(tiny, sample="0020", **options):
    frame = surveyed(tiny, **options)
    assert frame["status"].to_dict() == {x: "rejected" if x == sample else "ok" for x in ("0010", "0020", "0030")}
    return frame.loc[sample, "reason"]


def test_a_truncated_scan_is_rejected(tiny):
    path = tiny.scan("0020")
    path.write_bytes(path.read_bytes()[:-600])

    assert "truncated" in rejected(tiny)


def test_a_scan_that_is_no_image_is_rejected(tiny):
    tiny.scan("0020").write_text("a letter")

    assert path_in(rejected(tiny), tiny.scan("0020").name)


def path_in(reason, name):
    return name in reason and "no TIFF" in reason


def test_a_scan_of_unknown_pixel_size_is_rejected(tiny):
    tiny.scan("0020").with_suffix(".json").unlink()

    assert "how large its pixels are" in rejected(tiny)


def test_a_warp_on_a_failing_disk_rejects_its_section_alone(tiny, monkeypatch):
    """An inventory that ended here would lose the brain's other sections."""
    module = importlib.import_module("cytonet_pipeline.histology.inventory.survey")

    def failing(section, brain, block):
        if section.sample == "0020":
            raise OSError(5, "Input/output error", "warp.h5")
        return placement(section, brain, block)

    placement = module.placement_digest
    monkeypatch.setattr(module, "placement_digest", failing)

    assert "warp.h5" in rejected(tiny)


def test_a_mask_of_another_section_rejects_the_section(tiny):
    tifffile.imwrite(tiny.mask("0020"), ring(shift=35), metadata=None)

    assert tiny.mask("0020").name in rejected(tiny)


def test_an_annotation_of_other_proportions_rejects_the_section(tiny):
    tifffile.imwrite(tiny.annotation("0020"), ring()[:, :60], metadata=None)

    assert "proportions" in rejected(tiny)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_scan_that_may_not_be_read_is_rejected(tiny):
    tiny.scan("0020").chmod(0)

    assert tiny.scan("0020").name in rejected(tiny)


def test_a_size_in_the_file_that_disagrees_flags_the_section_and_rescales_nothing(tiny):
    tifffile.imwrite(tiny.scan("0020"), section_picture(), resolution=(102, 102), resolutionunit="CENTIMETER")

    row = surveyed(tiny).loc["0020"]

    assert (row["status"], row["pixel_um"]) == ("flagged", 100.0)
    assert "98.0392 µm" in row["reason"]


def test_sizes_that_differ_by_less_than_a_percent_agree(tiny):
    tifffile.imwrite(tiny.scan("0020"), section_picture(), resolution=(100.5, 100.5), resolutionunit="CENTIMETER")

    assert surveyed(tiny).loc["0020", "status"] == "ok"


def test_an_empty_slide_is_flagged(tiny):
    tifffile.imwrite(tiny.scan("0020"), np.full((120, 160), 240, np.uint8))
    tiny.mask("0020").unlink()

    row = surveyed(tiny).loc["0020"]

    assert row["status"] == "flagged"
    assert "no tissue" in row["reason"]


def numbered(tiny, text):
    """Return the digest of the annotation under another table of areas."""
    (tiny.root / "derivatives/annotation/desc-areas_dseg.tsv").write_text(f"index\tname\n{text}")
    return surveyed(tiny).loc["0010", "annotation_digest"]


def test_the_digest_of_a_label_image_follows_the_areas_that_count(tiny):
    as_listed = numbered(tiny, "1\tArea 1\n")

    assert as_listed == numbered(tiny, "1\tAnother name\n2\tArea 2\n") == digest_file(tiny.annotation("0010"))
    assert as_listed != numbered(tiny, "2\tArea 2\n")


def test_the_digest_of_contours_follows_the_numbers_of_their_areas(tiny):
    tiny.annotation("0010").unlink()
    corners = [[40, 30], [100, 30], [100, 90], [40, 90], [40, 30]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [corners]},
        "properties": {"name": "Area 1"},
    }
    tiny.annotation("0010").with_suffix(".geojson").write_text(json.dumps([feature]))

    digests = [numbered(tiny, text) for text in ("1\tArea 1\n", "5\tArea 1\n", "1\tArea 9\n", "1\tArea 1\n2\tArea 2\n")]

    assert digests[0] == digests[3]
    assert len(set(digests)) == 3


def test_a_withdrawn_section_keeps_its_row(tiny):
    rows = tiny.table_rows()
    rows[1] |= {"status": "withdrawn", "reason": "torn"}
    tiny.write_table(rows)

    row = surveyed(tiny).loc["0020"]

    assert (row["status"], row["reason"], row["width_px"]) == ("withdrawn", "torn", 0)


def test_a_brain_without_sections_has_an_empty_inventory(tiny):
    (tiny.root / "sub-B02").mkdir()
    block = DatasetBlock(density_per_mm3=1, held_out="B01")

    assert len(survey(Dataset(tiny.root, block).brain("B02"), block)) == 0


def test_the_placement_digest_follows_matrix_warp_and_origin(tiny):
    (tiny.registration / "w.h5").write_bytes(b"warp")
    rows = tiny.rows()
    digests = {surveyed(tiny).loc["0020", "transform_digest"]}
    for change in ({"m03": 1.0}, {"warp": "w.h5"}, {"warp": "w.h5", "warp_origin": "centre"}):
        tiny.write_matrices([rows[0], {**rows[1], **change}, rows[2]])
        digests.add(surveyed(tiny).loc["0020", "transform_digest"])
    (tiny.registration / "w.h5").write_bytes(b"other")
    digests.add(surveyed(tiny).loc["0020", "transform_digest"])
    assert len(digests) == 5

    tiny.write_matrices([rows[0], {**rows[1], "m02": 9.0}, rows[2]])
    ignored = surveyed(tiny).loc["0020", "transform_digest"]
    tiny.write_matrices(rows)
    assert ignored == surveyed(tiny).loc["0020", "transform_digest"]


def test_a_blurred_scan_has_less_focus(tmp_path):
    from scipy.ndimage import gaussian_filter

    sharp, blurred = tmp_path / "sharp.tif", tmp_path / "blurred.tif"
    tifffile.imwrite(sharp, section_picture())
    tifffile.imwrite(blurred, gaussian_filter(section_picture(), 2))

    focus = [measure_quality(open_scan(path, 100.0)).focus for path in (sharp, blurred)]

    assert focus[0] > 3 * focus[1]


@pytest.mark.parametrize("name", ["B01", "B02", "B20"])
def test_real_brains_are_sound_and_no_section_of_them_is_named(name, shared_data):
    block = DatasetBlock(density_per_mm3=1, held_out="B20")
    brain = Dataset(shared_data / "colin27-brains", block).brain(name)

    frame = survey(brain, block)

    assert brain.problems == ()
    assert set(frame["status"]) - {"withdrawn"} == {"ok"}, frame["reason"].tolist()
    assert list(frame["sample"]) == [s.sample for s in brain.sections]
    assert set(frame["findings"]) == {""}
