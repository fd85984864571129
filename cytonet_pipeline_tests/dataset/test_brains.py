"""Brains as a whole: what is missing, their fingerprints, when they are released."""

import json
import os
import time

import pytest

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.errors import ConfigurationError, DataFault
from cytonet_pipeline.settings import DatasetBlock


def dataset(tiny, **block):
    return Dataset(tiny.root, DatasetBlock(density_per_mm3=1, held_out="B01", **block))


def test_the_data_set_gives_its_name_brains_and_areas(tiny):
    data = dataset(tiny)

    assert (data.name, data.brains(), data.released()) == ("Tiny", ["B01"], ["B01"])
    assert data.area_names().to_dict("records") == [{"index": 1, "name": "Area 1", "color": "#112233"}]


def test_without_a_table_of_areas_there_are_none(tiny):
    (tiny.annotations.parent.parent / "desc-areas_dseg.tsv").unlink()
    assert len(dataset(tiny).area_names()) == 0


def test_a_missing_or_empty_folder_is_a_matter_of_configuration(tmp_path):
    block = DatasetBlock(density_per_mm3=1, held_out="B01")
    with pytest.raises(ConfigurationError, match="no such folder"):
        Dataset(tmp_path / "nowhere", block)
    with pytest.raises(ConfigurationError, match="no brain in this data set"):
        Dataset(tmp_path, block)


def test_an_unknown_brain_is_named_with_those_that_there_are(tiny):
    with pytest.raises(DataFault, match=r"no brain B99; it has B01"):
        dataset(tiny).brain("B99")


def test_a_brain_without_any_section_is_a_problem_and_not_an_exception(tiny):
    (tiny.root / "sub-B02").mkdir()

    brain = dataset(tiny).brain("B02")

    assert brain.sections == ()
    assert any("no section of sub-B02" in problem for problem in brain.problems)
    assert any("no transform to MNIColin27" in problem for problem in brain.problems)


def test_without_matrices_every_section_says_so(tiny, read):
    tiny.matrices.unlink()

    brain = read()

    assert {s.status for s in brain.sections} == {"rejected"}
    assert any(tiny.matrices.name in problem for problem in brain.problems)


def test_a_matrix_table_without_a_column_is_named(tiny, read):
    tiny.write_matrices([{k: v for k, v in row.items() if k != "m11"} for row in tiny.rows()])

    assert any("no column m11" in problem for problem in read().problems)


def test_no_transform_to_the_reference_is_a_problem(tiny, read):
    tiny.to_reference.with_suffix(".h5").unlink()

    brain = read()

    assert brain.to_reference is None
    assert any("no transform to MNIColin27" in problem for problem in brain.problems)


def test_a_transform_of_a_format_that_is_not_read_is_named(tiny, read):
    tiny.to_reference.with_suffix(".h5").unlink()
    tiny.to_reference.with_suffix(".lta").write_text("type = 1")

    problem = next(problem for problem in read().problems if "no transform to MNIColin27" in problem)

    assert "_xfm.lta none is read" in problem


def test_two_transforms_are_ambiguous_and_the_first_by_extension_is_taken(tiny, read):
    tiny.to_reference.with_suffix(".mat").write_bytes(b"another")

    brain = read()

    assert brain.to_reference == tiny.to_reference.with_suffix(".h5")
    assert any("xfm.mat" in problem and "leave only" in problem for problem in brain.problems)


def test_an_inverse_and_surfaces_are_found(tiny, read):
    inverse = tiny.registration / "sub-B01_from-MNIColin27_to-brain_mode-points_xfm.h5"
    surface = tiny.root / "derivatives/surfaces/sub-B01/sub-B01_hemi-L_pial.surf.gii"
    surface.parent.mkdir(parents=True)
    for path in (inverse, surface):
        path.write_bytes(b"x")

    brain = read()

    assert brain.from_reference == inverse
    assert brain.surfaces == {"L_pial": surface}


def write_chain(tiny, *members):
    chain = tiny.to_reference.with_suffix(".json")
    chain.write_text(json.dumps({"transforms": [{"path": m, "invert": False} for m in members]}))
    tiny.to_reference.with_suffix(".h5").unlink(missing_ok=True)
    return chain


@pytest.mark.parametrize("member", ["gone.mat", "/etc/hostname", "../../../../../x.mat"])
def test_a_chain_with_a_member_that_is_not_to_be_had_is_a_problem(member, tiny, read):
    chain = write_chain(tiny, member)

    assert any(chain.name in problem and member in problem for problem in read().problems)


def test_a_chain_that_names_itself_ends(tiny, read):
    write_chain(tiny, tiny.to_reference.with_suffix(".json").name)

    assert read().problems == ()


def test_the_fingerprint_follows_everything_that_is_read(tiny, read):
    (tiny.registration / "affine.mat").write_bytes(b"one")
    chain = write_chain(tiny, "affine.mat")
    (tiny.registration / "w.h5").write_bytes(b"warp")
    rows = tiny.rows()
    rows[0]["warp"] = "w.h5"
    tiny.write_matrices(rows)
    seen = [read().fingerprint(), read().fingerprint()]
    assert seen[0] == seen[1]

    changes = [
        lambda: os.utime(tiny.scan("0010"), ns=(1, 1)),
        lambda: os.utime(tiny.mask("0010"), ns=(1, 1)),
        lambda: tiny.annotation("0010").unlink(),
        lambda: tiny.scan("0010").with_suffix(".json").write_text('{"SliceThickness": 20}'),
        lambda: tiny.matrices.write_text(tiny.matrices.read_text().replace("-8.0", "-9.0")),
        lambda: (tiny.registration / "w.h5").write_bytes(b"another warp"),
        lambda: (tiny.registration / "affine.mat").write_bytes(b"another"),
        lambda: chain.write_text(chain.read_text().replace("false", "true")),
        lambda: tiny.write_table(tiny.table_rows()),
    ]
    for change in changes:
        change()
        seen.append(read().fingerprint())

    assert len(set(seen)) == len(changes) + 1
    assert read(stain="myelin").fingerprint() not in seen


def test_the_fingerprint_does_not_follow_other_brains(tiny, read):
    before = read().fingerprint()
    (tiny.root / "sub-B02/micr").mkdir(parents=True)
    tiny.write_participants({"participant_id": ["B01", "B02"], "ingest": ["ready", "n/a"]})

    assert read().fingerprint() == before


def test_participants_release_brains_by_ingest(tiny):
    (tiny.root / "sub-B02").mkdir()
    (tiny.root / "sub-B03").mkdir()
    tiny.write_participants({"participant_id": ["sub-B01", "B02"], "ingest": ["ready", "n/a"]})

    data = dataset(tiny, quiet_minutes=0)

    assert data.brains() == ["B01", "B02", "B03"]
    assert data.released() == ["B01"]


def test_only_released_brains_of_the_data_set_take_part(tiny):
    """What a store holds of others stays there; nothing learns from it any more."""
    tiny.write_participants({"participant_id": ["B01", "sub-B02", "B03"], "ingest": ["ready", "withdrawn", "ready"]})
    (tiny.root / "sub-B02").mkdir()
    (tiny.root / "sub-B04").mkdir()

    reasons = dataset(tiny).reasons_against(["B01", "B02", "B03", "B04", "B05"])

    assert list(reasons) == ["B02", "B03", "B04", "B05"]
    assert "'withdrawn'" in reasons["B02"]
    assert "neither a folder sub-B03 nor a section table" in reasons["B03"]
    assert "does not list it" in reasons["B04"]


def test_a_brain_that_is_being_changed_takes_part_as_it_was_ingested(tiny):
    """Touching a file must not take a brain out of every training set for an hour."""
    (tiny.root / "participants.tsv").unlink()
    (tiny.root / "sub-B01/new").write_text("")

    assert dataset(tiny, quiet_minutes=60).released() == []
    assert dataset(tiny, quiet_minutes=60).reasons_against(["B01"]) == {}


def test_without_ingest_a_brain_is_released_when_it_has_been_quiet(tiny):
    """Digitising a brain takes a year: what still changes is not taken."""
    tiny.write_participants({"participant_id": ["sub-B01"]})
    assert dataset(tiny, quiet_minutes=60).released() == []
    assert dataset(tiny, quiet_minutes=0).released() == ["B01"]

    past = time.time() - 2 * 3600
    for path in tiny.root.rglob("*"):
        os.utime(path, (past, past))
    assert dataset(tiny, quiet_minutes=60).released() == ["B01"]

    os.utime(tiny.mask("0010"))
    assert dataset(tiny, quiet_minutes=60).released() == []
    assert dataset(tiny, quiet_minutes=60).file_of_the_future("B01") == ""


def test_names_with_prefix_are_accepted_everywhere(tiny, read):
    assert dataset(tiny).brain("sub-B01").name == "B01"
    assert {s.sample for s in read().sections} == {"0010", "0020", "0030"}


def test_sections_know_which_areas_there_are(tiny, read):
    areas = read().sections[0].areas

    assert (areas.numbers, dict(areas.by_name)) == ({1}, {"Area 1": 1})


def test_a_faulty_table_of_areas_is_a_problem(tiny, read):
    (tiny.annotations.parent.parent / "desc-areas_dseg.tsv").write_text("index\tname\n1\tA\n1\tB\n")

    brain = read()

    assert brain.sections[0].areas is None
    assert any("desc-areas_dseg.tsv" in problem and "twice" in problem for problem in brain.problems)


def test_positions_along_the_series_are_those_of_the_middles():
    """Tilted sections intersect outside the tissue, so their corners do not show their order."""
    import numpy as np

    from cytonet_pipeline.dataset import positions_mm

    tilt = np.radians(10)
    matrices = []
    for y_mm in (0.0, 2.0, 5.0):
        right = np.array([1.0, 0, 0])
        down = np.array([0, np.sin(tilt) * (y_mm == 2.0), -np.cos(tilt) if y_mm == 2.0 else -1.0])
        corner = np.array([-8, y_mm, 6]) - 8 * right - 6 * down
        matrices.append(np.column_stack([right, down, [0, 0, 0], corner]))

    along = positions_mm(matrices, np.tile([8.0, 6.0], (3, 1)))

    np.testing.assert_allclose(np.abs(np.diff(along)), [2, 3], rtol=0.01)
