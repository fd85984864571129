"""Every fault that tables and names can have, one at a time: the section's reason names it, the others go on."""

import json

import numpy as np
import pytest

from cytonet_pipeline_tests.dataset.tiny import SAMPLES


def the_fault_of(brain, sample="0020"):
    """The reason of a sample's rejection, after looking that every other section is sound."""
    assert {s.sample: s.status for s in brain.sections} == {x: "rejected" if x == sample else "ok" for x in SAMPLES}
    section = next(s for s in brain.sections if s.sample == sample)
    assert "\n" not in section.reason
    assert section.reason.rstrip().endswith(".")
    return section.reason


def test_a_sound_brain_has_no_faults(read):
    brain = read()

    assert brain.problems == brain.notes == ()
    assert [(s.sample, s.section, s.status, s.reason) for s in brain.sections] == [
        ("0010", 10, "ok", ""),
        ("0020", 20, "ok", ""),
        ("0030", 30, "ok", ""),
    ]
    assert all(s.pixel_um == 100.0 and s.stain == "merker" and s.mask for s in brain.sections)
    assert [s.annotation is not None for s in brain.sections] == [True, False, False]
    np.testing.assert_array_equal(brain.sections[2].matrix[:, 3], [-8, 4, 6])
    assert brain.sections[0].path == "sub-B01/micr/sub-B01_sample-0010_stain-merker_BF.tif"


def test_a_missing_row_of_the_matrix_table(tiny, read):
    tiny.write_matrices([row for row in tiny.rows() if row["sample_id"] != "sample-0020"])

    assert "no matrix for sample 0020" in the_fault_of(read())


@pytest.mark.parametrize("cell", ["abc", None, "inf", "nan"])
def test_a_cell_that_is_no_number(cell, tiny, read):
    rows = tiny.rows()
    rows[1]["m12"] = cell
    tiny.write_matrices(rows)

    assert tiny.matrices.name in the_fault_of(read())


@pytest.mark.parametrize(
    "columns",
    [
        {"m00": 0, "m10": 0, "m20": 0},
        {"m01": 0, "m11": 0, "m21": 0},
        {"m00": 1, "m10": 0, "m20": 2, "m01": -3, "m11": 0, "m21": -6},
        {"m00": 1e200, "m10": 0, "m20": 0, "m01": 1e200, "m11": 0, "m21": 0},
    ],
)
def test_a_singular_matrix(columns, tiny, read):
    rows = tiny.rows()
    rows[1] |= columns
    tiny.write_matrices(rows)

    assert "singular" in the_fault_of(read())


def test_the_third_column_does_not_make_a_matrix_singular(tiny, read):
    rows = tiny.rows()
    rows[1] |= {"m02": 0, "m12": 0, "m22": 0}
    tiny.write_matrices(rows)

    assert all(s.status == "ok" for s in read().sections)


def test_two_rows_for_one_sample(tiny, read):
    tiny.write_matrices([*tiny.rows(), tiny.rows()[1]])

    assert "several rows for sample 0020" in the_fault_of(read())


@pytest.mark.parametrize(
    ("warp", "origin", "expected"),
    [
        ("warps/missing.h5", "corner", "missing.h5 is not there"),
        ("/etc/hostname", "corner", "allowed_roots"),
        ("../../../../elsewhere.h5", "corner", "allowed_roots"),
        (None, "middle", "write corner or centre"),
    ],
)
def test_a_warp_that_cannot_be_used(warp, origin, expected, tiny, read):
    rows = tiny.rows()
    rows[1] |= {"warp": warp, "warp_origin": origin}
    tiny.write_matrices(rows)

    assert expected in the_fault_of(read())


def test_a_warp_is_found_beside_the_table_that_names_it(tiny, read):
    (tiny.registration / "w.h5").write_bytes(b"warp")
    rows = tiny.rows()
    rows[1] |= {"warp": "w.h5", "warp_origin": "centre"}
    tiny.write_matrices(rows)

    section = read().sections[1]

    assert (section.warp, section.warp_origin) == (tiny.registration / "w.h5", "centre")


def test_two_scans_of_one_sample_must_be_decided_by_the_table(tiny, read):
    tiny.write_scan("0020", name="sub-B01_sample-0020_run-2_stain-merker_BF.tif")

    reason = the_fault_of(read())

    assert "run-2" in reason
    assert "section table" in reason


def test_a_scan_of_another_stain_is_left_out_with_its_reason(tiny, read):
    tiny.scan("0020").rename(tiny.micr / "sub-B01_sample-0020_stain-myelin_BF.tif")

    assert "its stain is myelin, the configured one is merker" in the_fault_of(read())


def test_another_stain_beside_the_right_one_is_only_noted(tiny, read):
    tiny.write_scan("0020", name="sub-B01_sample-0020_stain-myelin_BF.tif")

    brain = read()

    assert all(s.status == "ok" for s in brain.sections)
    assert "myelin" in brain.notes[0]


def test_a_sample_without_number_needs_a_section_table(tiny, read):
    tiny.write_scan("x", name="sub-B01_sample-x_stain-merker_BF.tif")

    section = next(s for s in read().sections if s.sample == "x")

    assert section.status == "rejected"
    assert "no section number" in section.reason


def test_two_masks_of_one_sample(tiny, read):
    mask = tiny.mask("0020")
    mask.with_name("sub-B01_sample-0020_run-9_desc-cortex_mask.tif").write_bytes(mask.read_bytes())
    mask.rename(mask.with_name("sub-B01_sample-0020_run-8_desc-cortex_mask.tif"))

    assert "several images could be its mask" in the_fault_of(read())


@pytest.mark.parametrize(
    ("sidecar", "expected"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "not a JSON object"),
        ({"PixelSize": [1, 2], "PixelSizeUnits": "um"}, "square pixels"),
        ({"PixelSize": [1, 1], "PixelSizeUnits": "px"}, "um, mm or nm"),
        ({"PixelSize": [1, 1]}, "um, mm or nm"),
        ({"PixelSize": [-1, -1], "PixelSizeUnits": "um"}, "positive"),
        ({"PixelSize": "64", "PixelSizeUnits": "um"}, "positive"),
    ],
)
def test_a_sidecar_without_a_valid_pixel_size(sidecar, expected, tiny, read):
    path = tiny.scan("0020").with_suffix(".json")
    path.write_text(sidecar if isinstance(sidecar, str) else json.dumps(sidecar))

    reason = the_fault_of(read())

    assert path.name in reason
    assert expected in reason


@pytest.mark.parametrize(
    ("size", "unit", "um"), [(0.064, "mm", 64.0), (500, "nm", 0.5), ([1, 1, 20], "um", 1.0), ("n/a", "um", None)]
)
def test_a_sidecar_gives_its_size_in_any_unit_of_bids(size, unit, um, tiny, read):
    tiny.scan("0020").with_suffix(".json").write_text(json.dumps({"PixelSize": size, "PixelSizeUnits": unit}))

    assert read().sections[1].pixel_um == (pytest.approx(um) if um else None)


def test_a_reflected_matrix(tiny, read):
    """One row seen from the other side: its patches would lie mirrored in the brain."""
    rows = tiny.rows()
    rows[1] |= {name: -rows[1][name] for name in ("m00", "m10", "m20")}
    tiny.write_matrices(rows)

    reason = the_fault_of(read())

    assert tiny.matrices.name in reason
    assert "reflected" in reason


def test_a_brain_that_is_mirrored_as_a_whole_blames_no_section(tiny, read):
    mirrored = [row | {name: -row[name] for name in ("m00", "m10", "m20")} for row in tiny.rows()]
    tiny.write_matrices(mirrored)

    assert all(section.status == "ok" for section in read().sections)


def test_a_label_image_beside_contours_of_one_sample_must_be_decided(tiny, read):
    tiny.annotation("0010").with_suffix(".geojson").write_text("{}")

    section = read().sections[0]

    assert section.status == "rejected"
    assert "several images could be its annotation" in section.reason


def test_a_section_number_that_several_samples_share_flags_all_of_them(tiny, read):
    for name in ("left-0010", "right-10"):
        tiny.write_scan(name, name=f"sub-B01_sample-{name}_stain-merker_BF.tif")
    tiny.write_matrices([*tiny.rows(), *({**tiny.rows()[0], "sample_id": s} for s in ("left-0010", "right-10"))])

    flagged = {s.sample: s.reason for s in read().sections if s.reason}

    assert flagged.keys() == {"0010", "left-0010", "right-10"}
    assert "the number 10 is also that of sample 0010, sample left-0010;" in flagged["right-10"]


@pytest.mark.parametrize("index", ["1.7", "-1", "3e9", "inf"])
def test_an_area_whose_index_is_no_whole_number_is_a_problem(index, tiny, read):
    (tiny.annotations.parent.parent / "desc-areas_dseg.tsv").write_text(f"index\tname\n{index}\tA\n2\tB\n")

    brain = read()

    assert brain.sections[0].areas is None
    assert any("no whole number from 1" in problem for problem in brain.problems)


def test_areas_may_be_numbered_with_a_decimal_point_and_have_a_background(tiny, read):
    (tiny.annotations.parent.parent / "desc-areas_dseg.tsv").write_text("index\tname\n0\tnone\n1.0\tA\n")

    assert read().sections[0].areas.numbers == {0, 1}


@pytest.mark.parametrize("value", ["0", "1.5", "cortex", "-2"])
def test_a_mask_value_is_a_whole_number_from_1(value, tiny, read):
    tiny.write_table([row | {"mask_value": value if i == 1 else "2"} for i, row in enumerate(tiny.table_rows())])

    assert f"mask_value '{value}'" in the_fault_of(read())


def test_the_mask_value_of_the_table_comes_before_that_of_the_settings(tiny, read):
    tiny.write_table([row | {"mask_value": "2" if i else None} for i, row in enumerate(tiny.table_rows())])

    assert [s.mask_value for s in read(mask_value={"B01": 1}).sections] == [1, 2, 2]
    assert read(mask_value=1).fingerprint() != read().fingerprint()
