"""Fields of ANTs, ITK, NiftyReg and SPM in NIfTI images, against nibabel, SimpleITK and formulas in float64."""

import struct

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from cytonet_pipeline.errors import TransformError
from cytonet_pipeline.registration import load_transform
from cytonet_pipeline_tests.registration.conftest import LPS
from cytonet_pipeline_tests.registration.transforms import fields_as_written as written

FLOAT32_MM = 2e-5


@pytest.mark.parametrize(
    ("header", "stored"),
    [
        ({"name": "NREG_TRANS", "p1": 0}, "positions"),
        ({"name": "NREG_TRANS", "p1": 1}, "displacements"),
        ({"name": "Mapping"}, "positions"),
        ({"intent": 1006}, "displacements"),
        ({}, "displacements in LPS"),
        ({"version": 2}, "displacements in LPS"),
    ],
    ids=["NiftyReg -def", "NiftyReg -disp", "SPM y_", "DISPVECT", "ANTs", "NIfTI-2"],
)
def test_one_map_is_the_same_from_each_program(tmp_path, header, stored):
    positions = written.positions_mm()
    vectors = positions if stored == "positions" else positions - written.places_mm()
    path = written.write(tmp_path / "f.nii.gz", vectors * LPS if stored.endswith("LPS") else vectors, **header)
    points = written.points_inside()

    transform = load_transform(path)

    np.testing.assert_allclose(transform(points), written.interpolated(positions, points), atol=FLOAT32_MM)
    back = transform.inverse()(transform(points))
    np.testing.assert_allclose(back, points, atol=1e-3)


def test_a_position_field_says_nothing_about_points_outside(tmp_path):
    """A displacement of zero, as outside ITK's fields, would be a jump of the whole linear part."""
    transform = load_transform(written.write(tmp_path / "y_.nii.gz", written.positions_mm(), name="Mapping"))
    outside = np.array([[-200.0, 0.0, 0.0], [0.0, 300.0, 0.0]])

    assert np.isnan(transform(outside)).all()
    assert np.isnan(transform.inverse()(outside)).all()


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"name": "NREG_TRANS", "p1": 2}, "NiftyReg.*cubic spline grid"),
        ({"name": "NREG_TRANS", "p1": 3}, "NiftyReg.*velocity field of positions"),
        ({"name": "NREG_TRANS", "p1": 5}, "NiftyReg.*spline grid of velocities"),
        ({"name": "NREG_TRANS", "p1": 17}, "NiftyReg.*of kind 17"),
        ({"name": "NREG_TRANS", "p1": float("nan")}, "NiftyReg"),
        ({"name": "NREG_CPP_FILE"}, "NiftyReg.*NREG_CPP_FILE"),
        ({"name": "Flow"}, "1007 Flow.*not known"),
        ({}, "they are positions"),
        ({"intent": 0}, "does not say that it holds displacements"),
        ({"intent": 1008}, "does not say that it holds displacements"),
        ({"intent": 2006}, "FSL"),
    ],
)
def test_what_is_not_certain_is_refused_by_name_with_a_remedy(tmp_path, header, words):
    path = written.write(tmp_path / "f.nii.gz", written.positions_mm(), **header)
    with pytest.raises(TransformError, match=rf"f\.nii\.gz.*{words}") as error:
        load_transform(path)
    assert error.value.to_fix


def test_positions_in_lps_without_a_name_are_refused_too(tmp_path):
    path = written.write(tmp_path / "f.nii.gz", written.positions_mm() * LPS)
    with pytest.raises(TransformError, match="they are positions"):
        load_transform(path)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.int32])
def test_integers_with_a_slope_are_scaled_as_nibabel_scales_them(tmp_path, dtype):
    """ITK writes past its buffer here, and the whole process ends."""
    vectors = np.random.default_rng(0).integers(0, 100, (*written.SHAPE, 1, 3)).astype(dtype)
    image = nibabel.Nifti1Image(vectors, written.grid())
    image.header.set_intent(1007)
    image.to_filename(tmp_path / "f.nii")
    content = bytearray((tmp_path / "f.nii").read_bytes())
    content[112:120] = struct.pack("<ff", 0.03, -1.5)
    (tmp_path / "f.nii").write_bytes(content)
    points = written.points_inside()
    expected = points + LPS * written.interpolated(0.03 * vectors[..., 0, :].astype(float) - 1.5, points)

    np.testing.assert_allclose(load_transform(tmp_path / "f.nii")(points), expected, atol=FLOAT32_MM)


@pytest.mark.parametrize(("code", "unit"), [(1, "metres"), (3, "micrometres")])
def test_a_grid_that_is_not_in_mm_is_refused(tmp_path, code, unit):
    path = written.write(tmp_path / "f.nii", np.zeros((*written.SHAPE, 3)))
    content = bytearray(path.read_bytes())
    content[123] = code
    path.write_bytes(content)
    with pytest.raises(TransformError, match=f"f.nii: its grid is in {unit}"):
        load_transform(path)


def shifted(path, by_mm, codes):
    """Write a field whose qform lies `by_mm` beside its sform."""
    image = nibabel.Nifti1Image(np.ones((*written.SHAPE, 1, 3), np.float32), written.grid())
    image.header.set_intent(1007)
    moved = written.grid()
    moved[:3, 3] += by_mm
    image.header.set_qform(moved, codes[0])
    image.header.set_sform(written.grid(), codes[1])
    image.to_filename(path)
    return path


@pytest.mark.parametrize("codes", [(1, 1), (1, 2), (2, 1), (4, 1), (1, 0), (0, 1)])
def test_a_field_lies_where_nibabel_puts_a_volume_of_the_same_header(tmp_path, codes):
    path = shifted(tmp_path / "f.nii.gz", (7.0, 0.0, 0.0), codes)

    transform = load_transform(path)

    np.testing.assert_allclose(transform.grid_to_mm, nibabel.load(path).affine, atol=1e-5)
    assert bool(transform.notes) == (0 not in codes)


@pytest.mark.parametrize(("by_mm", "flagged"), [(0.4, False), (0.6, True)])
def test_from_a_tenth_of_a_voxel_on_sform_and_qform_are_flagged(tmp_path, by_mm, flagged):
    notes = load_transform(shifted(tmp_path / "f.nii.gz", (by_mm, 0, 0), (1, 1))).notes

    assert bool(notes) == flagged
    assert not notes or ("f.nii.gz" in notes[0] and "0.60 mm" in notes[0])


def test_the_flag_follows_a_field_into_chains_and_inverses_and_is_no_part_of_the_digest(tmp_path):
    path = shifted(tmp_path / "f.nii.gz", (3.0, 0, 0), (1, 1))
    (tmp_path / "c.json").write_text('{"transforms": [{"path": "f.nii.gz", "invert": true}, {"path": "f.nii.gz"}]}')

    chain = load_transform(tmp_path / "c.json")

    assert chain.notes == load_transform(path).notes == load_transform(path).inverse().notes
    assert "sform" not in str(chain.to_json())


def test_a_sheared_grid_is_read_by_its_sform(tmp_path):
    """ITK cannot hold it; SPM and NiftyReg write it."""
    sheared = written.grid() @ np.array([[1, 0.2, 0, 0], [0, 1, 0.1, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    image = nibabel.Nifti1Image(np.ones((*written.SHAPE, 1, 3), np.float32), None)
    image.header.set_intent(1007)
    image.header.set_sform(sheared, 1)
    image.header.set_zooms((5.0, 5.0, 5.0, 1.0, 1.0))
    image.to_filename(tmp_path / "f.nii.gz")

    np.testing.assert_allclose(load_transform(tmp_path / "f.nii.gz").grid_to_mm, sheared, atol=1e-5)


def test_itks_own_fields_keep_the_numbers_that_itk_gives_them(tmp_path):
    """Stored results name a transform by the digest of these numbers."""
    rng = np.random.default_rng(3)
    image = sitk.GetImageFromArray(rng.normal(size=(*written.SHAPE[::-1], 3)).astype(np.float32), isVector=True)
    image.SetSpacing((0.7, 0.8, 0.9))
    image.SetOrigin((1.1, -2.2, 3.3))
    image.SetDirection(written.grid()[:3, :3].ravel() / 5)
    sitk.WriteImage(image, str(tmp_path / "f.nii.gz"))
    read = sitk.ReadImage(str(tmp_path / "f.nii.gz"))
    axes = np.array(read.GetDirection()).reshape(3, 3) * np.array(read.GetSpacing())

    transform = load_transform(tmp_path / "f.nii.gz")

    np.testing.assert_array_equal(transform.grid_to_mm[:3], np.c_[axes, read.GetOrigin()] * LPS[:, None])
    np.testing.assert_array_equal(transform.values_mm, (sitk.GetArrayFromImage(read) * LPS.astype(np.float32)).T)


def test_vectors_of_the_plane_in_ras_are_turned_in_both_components(tmp_path):
    """ITK negates others than it should in 2-D."""
    plane = np.random.default_rng(0).normal(size=(7, 8, 1, 2))
    for intent in (1006, 1007):
        written.write(tmp_path / f"{intent}.nii", -plane if intent == 1006 else plane, intent=intent, affine=np.eye(4))

    both = [load_transform(tmp_path / f"{intent}.nii", dimension=2) for intent in (1006, 1007)]

    np.testing.assert_array_equal(both[0].values_mm, both[1].values_mm)


def test_values_that_are_no_numbers_are_counted_and_spms_are_explained(tmp_path):
    positions = written.positions_mm()
    positions[:2] = np.nan
    with pytest.raises(TransformError, match=r"not numbers \(9\.5%") as error:
        load_transform(written.write(tmp_path / "iy_.nii", positions, name="Mapping"))
    assert "y_ field of the other direction" in error.value.to_fix
