"""Every file that lies where images and transforms lie is used, or listed with the reason."""

import json
import os
from pathlib import Path

import pytest

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.settings import DatasetBlock


@pytest.fixture
def data(tiny):
    return Dataset(tiny.root, DatasetBlock(density_per_mm3=1, held_out="B01"))


def note_on(brain, name):
    return next((note for note in brain.notes if name in note), "")


PLACES = {
    "micr/notes.md": "it is no scan by its name",
    "micr/IMG_0001.tif": "its name has no sub and sample",
    "micr/sub-B01_sample-0010_photo.jpg": "a photo is no scan of a section",
    "micr/sub-B01_sample-0010_stain-merker_BF.png": "sample 0010 has a scan that is no plain picture",
    "micr/sub-B01_sample-0010_stain-merker_BF.czi": "sample 0010 has another scan, and it is in no format",
    "micr/sub-B01_sample-0099_BF.json": "it describes no scan that is read",
    "micr/sub-B01_sample-0010_stain-nissl_BF.ome.tif": "the configured stain is merker",
    "sub-B01_sample-0040_BF.tif": "images are looked for in sub-B01/micr",
    "ses-01": "images are looked for in sub-B01/micr; a section table",
}


@pytest.mark.parametrize("place", PLACES)
def test_a_file_beside_the_scans_is_used_or_listed(place, tiny, read):
    path = tiny.root / "sub-B01" / place
    path.mkdir() if "." not in place else path.write_bytes(b"x")

    brain = read()

    assert all((s.status, s.reason) == ("ok", "") for s in brain.sections)
    assert PLACES[place] in note_on(brain, f"sub-B01/{place}")


DERIVATIVES = {
    "segmentation/sub-B01/micr/sub-B01_sample-0077_desc-cortex_mask.tif": "there is no scan of sample 0077",
    "segmentation/sub-B01/micr/sub-B01_sample-0010_desc-white_mask.tif": "does not end in _desc-cortex_mask",
    "segmentation/sub-B01/sub-B01_sample-0010_desc-cortex_mask.tif": "images are looked for in sub-B01/micr",
    "annotation/sub-B01/micr/sub-B01_sample-0020_desc-areas_dseg.json": "it has no features",
    "annotation/sub-B01/micr/export.geojson": "does not end in _desc-areas_dseg",
    "registration/sub-B01/0GenericAffine.mat": "no table, chain or name says what it is for",
    "surfaces/sub-B01/lh.pial": "the name of a surface is",
    "sections/sub-B01/list.xlsx": "only the section table",
}


@pytest.mark.parametrize("place", DERIVATIVES)
def test_a_file_in_the_derivatives_is_used_or_listed(place, tiny, read):
    path = tiny.root / "derivatives" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"Name": "x"}')

    brain = read()

    assert all((s.status, s.reason) == ("ok", "") for s in brain.sections)
    assert DERIVATIVES[place] in note_on(brain, place)


def test_files_of_other_kinds_of_data_are_not_mentioned(tiny, read):
    (tiny.root / "sub-B01/anat").mkdir()
    (tiny.micr / ".sub-B01_sample-0050.tif.x1").write_bytes(b"")
    (tiny.root / "sub-B01/sub-B01_scans.tsv").write_text("filename\n")

    assert read().notes == ()


def test_many_files_of_one_reason_are_counted(tiny, read):
    for number in range(300):
        (tiny.micr / f"tile_{number:03}.tif").write_bytes(b"")

    (note,) = read().notes

    assert note.startswith("300 files in sub-B01/micr are passed over (tile_000.tif, tile_001.tif,")


def test_with_a_section_table_scans_that_it_does_not_name_are_listed(tiny, read):
    tiny.write_table(tiny.table_rows()[:2])

    assert "which lists all sections, does not name it" in note_on(read(), tiny.scan("0030").name)


def test_a_member_of_a_chain_and_a_warp_in_a_folder_are_used(tiny, read):
    (tiny.registration / "warps").mkdir()
    for name in ("warps/w.h5", "a.mat"):
        (tiny.registration / name).write_bytes(b"x")
    tiny.to_reference.with_suffix(".h5").unlink()
    tiny.to_reference.with_suffix(".json").write_text(json.dumps({"transforms": [{"path": "a.mat"}]}))
    tiny.write_matrices([row | {"warp": "warps/w.h5"} for row in tiny.rows()])

    assert read().notes == ()


@pytest.mark.parametrize("extension", [".czi", ".ndpi", ".zarr", ".tif.part"])
def test_a_scan_in_a_format_that_is_not_read_is_a_rejected_section(extension, tiny, read):
    path = tiny.micr / f"sub-B01_sample-0040_stain-merker_BF{extension}"
    path.write_bytes(b"x")

    section = read().sections[-1]

    assert (section.sample, section.section, section.status) == ("0040", 40, "rejected")
    assert path.name in section.reason
    assert "no format that is read" in section.reason


@pytest.mark.parametrize("extension", [".svs", ".btf", ".ome.tiff", ".png", ".JPG", ".jpeg"])
def test_a_scan_in_a_format_that_is_read_is_a_section_whatever_its_extension(extension, tiny, read):
    path = tiny.scan("0020")
    path.rename(path.with_suffix(extension))

    section = read().sections[1]

    assert (section.status, section.scan, section.pixel_um) == ("ok", path.with_suffix(extension), 100.0)


@pytest.mark.parametrize("extension", [".ome.tiff", ".png", ".jpg", ".btf", ".tif"])
def test_a_mask_is_found_in_all_formats_that_are_read(extension, tiny, read):
    path = tiny.mask("0020")
    path.rename(path.with_suffix(extension))

    assert read().sections[1].mask == path.with_suffix(extension)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("desc-cortex_mask.nii.gz", "no format that is read"),
        ("desc-Cortex_mask.tif", "ends in _desc-cortex_mask"),
        ("mask.png", "ends in _desc-cortex_mask"),
    ],
)
def test_what_looks_meant_as_a_mask_and_cannot_be_taken_flags_its_section(name, reason, tiny, read):
    """Without a word the mask would be derived from the reference."""
    tiny.mask("0020").rename(tiny.masks / f"sub-B01_sample-0020_{name}")

    brain = read()
    section = brain.sections[1]

    assert brain.notes == ()
    assert (section.status, section.mask) == ("ok", None)
    assert f"{name} is not taken as its mask: " in section.reason
    assert reason in section.reason


def test_features_in_a_json_file_are_an_annotation(tiny, read):
    path = tiny.annotation("0020").with_suffix(".json")
    path.write_text('{"type": "FeatureCollection", "features": []}')

    assert read().sections[1].annotation == path


def test_a_plain_picture_beside_a_mask_is_not_taken_and_flags_the_section(tiny, read):
    tiny.mask("0020").with_suffix(".png").write_bytes(b"x")

    section = read().sections[1]

    assert (section.status, section.mask) == ("ok", tiny.mask("0020"))
    assert "mask.png lies beside" in section.reason


def test_brains_whose_names_cannot_be_used_are_named(tiny, data):
    tiny.write_participants({"participant_id": ["sub-B01", "a b", "ü", "x" * 300], "ingest": ["ready"] * 4})
    (tiny.root / "sub-B 21").mkdir()

    found = data.names_passed_over()

    assert data.brains() == ["B01"]
    assert data.released() == ["B01"]
    assert len(found) == 4
    assert any("row 'a b'" in text and "letters, digits" in text for text in found)
    assert any("row 'ü'" in text for text in found)
    assert any("has 300 characters; use at most 100" in text and len(text) < 200 for text in found)
    assert any("folder 'sub-B 21'" in text for text in found)


def test_folders_and_files_of_no_brain_are_named(tiny, data):
    (tiny.root / "derivatives/segmentation/sub-B07/micr").mkdir(parents=True)
    (tiny.root / "derivatives/annotation/all.geojson").write_text("{}")
    (tiny.root / "derivatives/annotation/dataset_description.json").write_text("{}")
    (tiny.root / "sub-B09.zip").write_bytes(b"")

    assert data.strays() == [
        "derivatives/annotation/all.geojson is passed over: it lies in no folder of a brain.",
        "derivatives/segmentation/sub-B07 is passed over: there is no brain 'B07'.",
        "sub-B09.zip is passed over: it is no folder of a brain.",
    ]


def test_what_is_passed_over_does_not_make_a_brain_stale(tiny, read):
    before = read().fingerprint()
    (tiny.micr / "notes.md").write_text("x")

    assert read().fingerprint() == before


@pytest.mark.parametrize("name", [b"sub-B01_sample-0040_\xffBF.tif", b"a\nb.tif", b"\xff.tif"])
def test_a_name_that_cannot_be_written_is_spelled_out(name, tiny, read):
    """Printing it, or writing it into a table, would end the command for all brains."""
    (Path(os.fsdecode(os.fsencode(tiny.micr) + b"/" + name))).write_bytes(b"")
    (Path(os.fsdecode(os.fsencode(tiny.masks) + b"/" + name))).write_bytes(b"")

    brain = read()

    assert [s.sample for s in brain.sections] == ["0010", "0020", "0030"]
    assert len(brain.notes) == 2
    assert all("\n" not in note and note.encode() for note in brain.notes)
