"""The section table: for brains whose files have other names."""

import pytest

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.settings import DatasetBlock
from cytonet_pipeline_tests.dataset.test_faults import the_fault_of


def spoil(tiny, **cells):
    rows = tiny.table_rows()
    rows[1] |= cells
    tiny.write_table(rows)


def test_the_table_says_the_same_as_the_file_names(tiny, read):
    by_name = read()
    tiny.write_table(tiny.table_rows())
    by_table = read()

    assert by_table.problems == ()
    for one, other in zip(by_name.sections, by_table.sections, strict=True):
        assert (one.sample, one.section, one.scan, one.mask, one.path) == (
            other.sample,
            other.section,
            other.scan,
            other.mask,
            other.path,
        )


def test_a_withdrawn_section_keeps_its_reason(tiny, read):
    spoil(tiny, status="withdrawn", reason="torn during mounting")

    section = read().sections[1]

    assert (section.status, section.reason) == ("withdrawn", "torn during mounting")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ({"scan": "sub-B01/micr/gone.tif"}, "the scan sub-B01/micr/gone.tif is not there"),
        ({"scan": None}, "names no scan"),
        ({"scan": "/etc/hostname"}, "allowed_roots"),
        ({"scan": "../outside.tif"}, "allowed_roots"),
        ({"mask": "derivatives/gone.tif"}, "the mask derivatives/gone.tif is not there"),
        ({"annotation": "derivatives/gone.tif"}, "the annotation derivatives/gone.tif is not there"),
        ({"stain": "myelin"}, "its stain is myelin"),
        ({"status": "perhaps"}, "write ok or withdrawn"),
        ({"section": "twelve"}, "write its number"),
        ({"pixel_size_um": "-3"}, "positive number"),
    ],
)
def test_a_row_with_a_fault_rejects_its_section_alone(cells, expected, tiny, read):
    spoil(tiny, **cells)

    assert expected in the_fault_of(read())


def test_scans_elsewhere_need_an_allowed_root(tiny, read, tmp_path):
    elsewhere = tmp_path / "archive/scan 20.tif"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(tiny.scan("0020").read_bytes())
    spoil(tiny, scan=str(elsewhere))

    assert "allowed_roots" in the_fault_of(read())
    section = read(allowed_roots=(elsewhere.parent,)).sections[1]
    assert (section.status, section.scan, section.path) == ("ok", elsewhere, str(elsewhere))
    assert section.pixel_um == 100.0


def test_the_table_decides_between_two_scans_of_one_sample(tiny, read):
    rows = tiny.table_rows()
    tiny.write_table([*rows, {**rows[1], "status": "withdrawn", "reason": "out of focus"}])
    assert [s.status for s in read().sections] == ["ok"] * 3

    tiny.write_table([*rows, rows[1]])
    assert "several scans of the sample" in the_fault_of(read())


def test_a_size_other_than_the_sidecars_is_something_to_look_at(tiny, read):
    spoil(tiny, pixel_size_um=120.0)

    section = read().sections[1]

    assert (section.status, section.pixel_um) == ("ok", 100.0)
    assert "100 µm" in section.reason
    assert "120" in section.reason


def test_without_the_column_masks_are_found_by_name(tiny, read):
    tiny.write_table([{k: v for k, v in row.items() if k not in ("mask", "annotation")} for row in tiny.table_rows()])
    assert [s.mask is not None for s in read().sections] == [True] * 3
    assert read().sections[0].annotation is not None


def test_n_a_in_the_column_means_no_mask(tiny, read):
    spoil(tiny, mask=None)
    assert [s.mask is not None for s in read().sections] == [True, False, True]


def test_a_sample_id_that_would_leave_its_folder_is_a_problem_of_the_brain(tiny, read):
    spoil(tiny, sample_id="../x")

    brain = read()

    assert [s.sample for s in brain.sections] == ["0010", "0030"]
    assert any("../x" in problem for problem in brain.problems)


@pytest.mark.parametrize(
    "text", ["", "sample_id\n1\n", "\0\0", "sample_id\tscan\n1\t2\t3\n", "sample_id\tscan\tscan\n"]
)
def test_an_unreadable_table_is_a_problem_and_not_an_exception(text, tiny, read):
    tiny.table.write_text(text)

    brain = read()

    assert brain.sections == ()
    assert any(tiny.table.name in problem for problem in brain.problems)


def test_a_brain_may_have_nothing_but_a_table(tiny, tmp_path):
    """Its scans lie in an archive; no folder sub-B02 exists."""
    rows = tiny.table_rows()[:1]
    table = tiny.root / "derivatives/sections/sub-B02/sub-B02_sections.tsv"
    table.parent.mkdir()
    tiny.write_participants({"participant_id": ["B01", "B02"], "ingest": ["ready", "ready"]})
    import pandas as pd

    pd.DataFrame(rows).to_csv(table, sep="\t", index=False, na_rep="n/a")

    brain = Dataset(tiny.root, DatasetBlock(density_per_mm3=1, held_out="B01")).brain("sub-B02")

    assert [s.brain for s in brain.sections] == ["B02"]
    assert brain.sections[0].scan == tiny.scan("0010")
