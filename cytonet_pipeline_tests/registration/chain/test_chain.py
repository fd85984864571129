"""The chain of a brain: resolved, written, read again, and applied in both directions."""

import dataclasses
import json
import shutil

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from cytonet_pipeline.dataset import Brain, Dataset, Section
from cytonet_pipeline.dataset.series import reflected
from cytonet_pipeline.errors import TransformError
from cytonet_pipeline.registration import Affine, BrainChain, SectionPlacement, resolve_chain
from cytonet_pipeline.registration.chain.placement import series_axis
from cytonet_pipeline.settings import DatasetBlock
from cytonet_pipeline.store import read_record
from cytonet_pipeline_tests.registration.transforms import fields_as_written as written

CORONAL = np.array([[1.0, 0, 0, -80], [0, 0, 0, 10], [0, -1, 0, 70]])


def placed(sample, y_mm, columns=CORONAL):
    matrix = columns.copy()
    matrix[1, 3] = y_mm
    return SectionPlacement(sample, matrix)


@pytest.fixture
def brain(tmp_path):
    """Three sections, the second with an in-plane warp; an affine to the reference."""
    sitk.WriteTransform(sitk.AffineTransform([1.1, 0, 0, 0, 0.9, 0.1, 0, 0, 1], [1, 2, 3]), str(tmp_path / "to.mat"))
    sitk.WriteTransform(sitk.Euler2DTransform((40, 30), 0.02, (0.5, -0.5)), str(tmp_path / "warp.tfm"))
    sections = []
    for number, warp in ((1, None), (2, tmp_path / "warp.tfm"), (3, None)):
        matrix = placed("", 5.0 * number).matrix
        sections.append(Section("B07", str(number), number, None, matrix=matrix, warp=warp))
    return Brain("B07", tmp_path, tuple(sections), to_reference=tmp_path / "to.mat")


def test_a_brain_without_a_transform_gives_an_error_with_a_remedy(brain):
    with pytest.raises(TransformError) as error:
        resolve_chain(dataclasses.replace(brain, to_reference=None))
    lines = str(error.value).splitlines()
    assert lines[0] == "sub-B07: no transform to MNIColin27."
    assert [line.split()[0] for line in lines[1:]] == ["looked", "to", "meanwhile"]
    assert "sub-B07_from-brain_to-MNIColin27_mode-points_xfm" in lines[1]


def test_a_scan_point_goes_through_warp_and_matrix_and_transform(brain):
    chain = resolve_chain(brain)
    point = np.array([[12.0, 34.0]])
    warped = sitk.ReadTransform(str(brain.sections[1].warp)).TransformPoint(point[0].tolist())
    expected = np.array([warped[0] - 80, 10.0, 70 - warped[1]])

    np.testing.assert_allclose(chain.scan_to_brain("2", point), [expected], atol=1e-9)
    lps = sitk.ReadTransform(str(brain.to_reference)).TransformPoint((expected * [-1, -1, 1]).tolist())
    np.testing.assert_allclose(chain.scan_to_reference("2", point), [np.array(lps) * [-1, -1, 1]], atol=1e-9)


def test_a_point_of_the_brain_finds_its_place_in_the_scan(brain):
    chain = resolve_chain(brain)
    xy = np.random.default_rng(0).uniform(0, 100, (200, 2))
    points = chain.scan_to_brain("2", xy) + 1.5 * chain.section_normal("2")

    back, off_plane = chain.brain_to_scan("2", points)

    np.testing.assert_allclose(back, xy, atol=1e-4)
    np.testing.assert_allclose(off_plane, 1.5)


def test_a_round_trip_between_brain_and_reference_returns_to_its_start(brain):
    chain = resolve_chain(brain)
    points = np.random.default_rng(0).uniform(-50, 50, (100, 3))

    np.testing.assert_allclose(chain.map_points(chain.map_points(points, "MNIColin27"), "brain"), points, atol=1e-9)


def test_rejected_sections_are_skipped_and_broken_ones_left_out_with_a_reason(brain, tmp_path):
    (tmp_path / "broken.tfm").write_text("not a transform")
    first, second, third = brain.sections
    sections = (
        dataclasses.replace(first, status="rejected", reason="no scan"),
        dataclasses.replace(second, warp=tmp_path / "broken.tfm"),
        third,
    )

    chain = resolve_chain(dataclasses.replace(brain, sections=sections))

    assert list(chain.sections) == ["3"]
    assert "broken.tfm" in chain.left_out["2"]
    with pytest.raises(TransformError, match=r"sample-2.*broken.tfm"):
        chain.scan_to_brain("2", np.zeros((1, 2)))


def test_a_given_inverse_is_used_and_a_broken_one_replaced_with_a_note(brain, tmp_path):
    sitk.WriteTransform(sitk.TranslationTransform(3, (0, 0, 7)), str(tmp_path / "from.tfm"))
    given = resolve_chain(dataclasses.replace(brain, from_reference=tmp_path / "from.tfm"))
    np.testing.assert_allclose(given.reference_to_brain(np.zeros((1, 3))), [[0, 0, 7]])

    (tmp_path / "from.tfm").write_text("not a transform")
    chain = resolve_chain(dataclasses.replace(brain, from_reference=tmp_path / "from.tfm"))

    np.testing.assert_allclose(chain.reference_to_brain(chain.brain_to_reference(np.ones((1, 3)))), np.ones((1, 3)))
    assert "numerical inverse" in chain.notes[0]


def test_a_written_chain_reads_back_as_the_same(brain, tmp_path):
    chain = resolve_chain(brain)
    chain.write(tmp_path / "out")

    again = BrainChain.read(tmp_path / "out")

    assert again.digest == chain.digest
    assert again.positions_mm() == chain.positions_mm()
    assert [again.section_digest(s) for s in again.sections] == [chain.section_digest(s) for s in chain.sections]
    record = read_record(tmp_path / "out" / "chain.json")
    assert record["sections"]["1"]["matrix"] == chain.sections["1"].matrix.tolist()


def test_a_member_of_a_json_chain_that_changed_is_noticed(brain, tmp_path):
    """The .json stays the same to the byte while the file that it names is overwritten."""
    (tmp_path / "to.json").write_text(json.dumps({"transforms": [{"path": "to.mat"}]}))
    resolve_chain(dataclasses.replace(brain, to_reference=tmp_path / "to.json")).write(tmp_path / "out")
    sitk.WriteTransform(sitk.TranslationTransform(3, (0, 0, 7)), str(tmp_path / "to.mat"))

    with pytest.raises(TransformError, match=r"to\.mat changed since"):
        BrainChain.read(tmp_path / "out")


def test_a_changed_section_changes_its_own_digest_only(brain):
    chain = resolve_chain(brain)
    first, second, third = brain.sections
    moved = first.matrix + np.eye(3, 4)
    other = resolve_chain(
        dataclasses.replace(brain, sections=(dataclasses.replace(first, matrix=moved), second, third))
    )

    changed = {sample for sample in chain.sections if chain.section_digest(sample) != other.section_digest(sample)}

    assert changed == {"1"}
    assert chain.digest != other.digest


def test_the_third_column_is_ignored(brain):
    chain = resolve_chain(brain)
    first, *others = brain.sections
    matrix = first.matrix.copy()
    matrix[:, 2] = np.nan
    other = resolve_chain(dataclasses.replace(brain, sections=(dataclasses.replace(first, matrix=matrix), *others)))

    assert other.digest == chain.digest


def test_positions_run_along_the_series_in_brain_mm(brain):
    """Section numbers do not matter: the distance of 5 mm comes from the matrices."""
    assert resolve_chain(brain).positions_mm() == pytest.approx({"1": 5.0, "2": 10.0, "3": 15.0})


def test_sections_that_are_tilted_against_each_other_have_their_distance_at_the_tissue():
    """Two planes turned by 10° against each other about an axis 60 mm beside their scans' corners."""
    turn = np.deg2rad(10)
    tilted = np.array([[np.cos(turn), 0, 0, 0], [np.sin(turn), 0, 0, 0], [0, -1, 0, 70]])
    tilted[:, 3] += np.array([-80.0, 20.0, 0.0])
    chain = BrainChain(
        "T1", {"1": placed("1", 10.0), "2": SectionPlacement("2", tilted)}, Affine(np.eye(4)), Affine(np.eye(4))
    )
    axis = series_axis(list(chain.sections.values()))
    middle = np.array([0.0, 20.0, 10.0])

    at = chain.positions_mm(middle)

    for sample, placement in chain.sections.items():
        foot = middle + (at[sample] - middle @ axis) * axis
        assert placement.normal @ (foot - placement.matrix[:, 3]) == pytest.approx(0, abs=1e-9)
    assert at["2"] - at["1"] > chain.positions_mm()["2"] - chain.positions_mm()["1"] + 10


@pytest.mark.parametrize("columns", [CORONAL, -CORONAL * [[1], [1], [-1]], CORONAL * [0.9, 0.9, 1, 1]])
def test_the_series_axis_points_to_the_anterior_whichever_way_coronal_sections_are_laid(columns):
    np.testing.assert_allclose(series_axis([placed("1", 0, columns), placed("2", 3, columns)]), [0, 1, 0], atol=1e-12)


def test_a_section_seen_from_the_opposite_side_is_named():
    mirrored = CORONAL * [-1, 1, 1, 1]
    series = [placed("1", 0), placed("2", 5), placed("3", 10, mirrored), placed("4", 15)]

    assert reflected({section.sample: section.matrix for section in series}) == ["3"]
    assert reflected({str(i): placed(str(i), i, mirrored).matrix for i in range(3)}) == []


def test_shrinkage_shows_as_in_plane_scale():
    assert placed("1", 0, CORONAL * [1.2, 1.0, 1.0, 1.0]).in_plane_scale == pytest.approx(np.sqrt(1.2))


@pytest.mark.parametrize("second", [[0, 0, 0], [2.0, 0, 0]])
def test_parallel_or_empty_columns_are_singular(second):
    matrix = CORONAL.copy()
    matrix[:, 1] = second
    with pytest.raises(TransformError, match="singular"):
        SectionPlacement("1", matrix)


def test_real_brains_resolve_write_and_read(shared_data, tmp_path):
    dataset = Dataset(shared_data / "colin27-brains", DatasetBlock(density_per_mm3=1, held_out="B20"))
    for name in ("B01", "B02", "B20"):
        chain = resolve_chain(dataset.brain(name))
        chain.write(tmp_path / name)
        assert BrainChain.read(tmp_path / name).digest == chain.digest
        assert not chain.left_out
        assert len(chain.sections) == (11 if name == "B01" else 12)
        assert sum(p.warp is not None for p in chain.sections.values()) == (3 if name == "B02" else 0)
        shutil.rmtree(tmp_path / name)


def test_a_brain_of_the_posters_size_is_resolved_written_and_read(brain, tmp_path):
    """459 sections, every tenth with its own warp; each file is read once."""
    sections = []
    for number in range(459):
        warp = None
        if number % 10 == 0:
            warp = tmp_path / f"warp-{number}.tfm"
            sitk.WriteTransform(sitk.Euler2DTransform((40, 30), 0.001 * number, (0.5, -0.5)), str(warp))
        sections.append(
            Section("B07", f"{number:04d}", number, None, matrix=placed("", 0.3 * number).matrix, warp=warp)
        )

    chain = resolve_chain(dataclasses.replace(brain, sections=tuple(sections)))
    chain.write(tmp_path / "out")

    assert BrainChain.read(tmp_path / "out").digest == chain.digest
    assert len(chain.sections) == 459
    assert max(np.diff(list(chain.positions_mm().values()))) == pytest.approx(0.3)


def test_what_headers_say_twice_is_noted_for_transforms_and_warps_and_a_given_inverse_stays(brain, tmp_path):
    plane = np.zeros((7, 8, 1, 2))
    for path, vectors in ((tmp_path / "field.nii", np.zeros((*written.SHAPE, 3))), (tmp_path / "warp.nii", plane)):
        written.write(path, vectors)
        image = nibabel.load(path, mmap=False)
        image.set_qform(np.diag([5.0, 5.0, 5.0, 1.0]), 1)
        image.set_sform(np.diag([5.0, 5.0, 4.0, 1.0]) + np.eye(4, k=3), 1)
        image.to_filename(path)
    (tmp_path / "from.json").write_text('{"transforms": [{"path": "to.mat", "invert": true}, {"path": "field.nii"}]}')
    first, second, third = brain.sections
    sections = (first, dataclasses.replace(second, warp=tmp_path / "warp.nii"), third)
    brain = dataclasses.replace(brain, sections=sections, from_reference=tmp_path / "from.json")

    chain = resolve_chain(brain)

    assert chain.sources.from_reference == tmp_path / "from.json"
    assert [note.split(" sform")[0] for note in chain.notes] == ["field.nii: its", "sample-2: warp.nii: its"]
    chain.write(tmp_path)
    assert BrainChain.read(tmp_path).notes == chain.notes
