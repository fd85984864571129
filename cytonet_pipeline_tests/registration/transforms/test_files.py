"""Reading transforms from files, and refusing files that are not transforms."""

import json

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from cytonet_pipeline.dataset.brain_files import EXTENSIONS
from cytonet_pipeline.errors import TransformError
from cytonet_pipeline.registration import load_transform
from cytonet_pipeline.registration.transforms.files import READERS, members
from cytonet_pipeline_tests.registration.conftest import LPS


@pytest.fixture
def points():
    return np.random.default_rng(0).uniform((-60, -90, -40), (60, 60, 70), (5_000, 3))


def write_field(path, vectors, intent=1007, shape5=True):
    data = vectors[..., None, :] if shape5 else vectors
    image = nibabel.Nifti1Image(data.astype(np.float32), np.diag([3.0, 3.0, 3.0, 1.0]))
    image.header.set_intent(intent)
    image.to_filename(path)
    return path


def write_chain(path, *entries):
    path.write_text(json.dumps({"transforms": list(entries)}))
    return path


def test_an_ants_pair_round_trips_only_in_the_right_order(shared_data, tmp_path, points):
    """The commonest mistake with ANTs output. 0.02 mm, against 0.26 mm swapped and 3.5 mm without the inversion."""
    pair = shared_data / "xfm"
    affine, warp, inverse = (
        str(pair / f"mni2colin_{name}") for name in ("0GenericAffine.mat", "1Warp.nii.gz", "1InverseWarp.nii.gz")
    )
    forward = load_transform(write_chain(tmp_path / "f.json", {"path": warp}, {"path": affine}))
    chains = {
        "right": [{"path": affine, "invert": True}, {"path": inverse}],
        "swapped": [{"path": inverse}, {"path": affine, "invert": True}],
        "not inverted": [{"path": affine}, {"path": inverse}],
    }

    error = {
        name: np.median(
            np.linalg.norm(load_transform(write_chain(tmp_path / "b.json", *chain))(forward(points)) - points, axis=1)
        )
        for name, chain in chains.items()
    }

    assert error["right"] < 0.05
    assert error["swapped"] > 5 * error["right"]
    assert error["not inverted"] > 2


def test_an_ants_warp_agrees_with_itk(shared_data, points):
    path = shared_data / "xfm/mni2colin_1Warp.nii.gz"
    theirs = sitk.DisplacementFieldTransform(sitk.ReadImage(str(path), sitk.sitkVectorFloat64))

    expected = np.array([theirs.TransformPoint(p) for p in (points * LPS).tolist()]) * LPS

    assert np.abs(load_transform(path)(points) - expected).max() < 1e-3


@pytest.mark.parametrize(("intent", "moved"), [(1007, (-1.0, -2.0, 3.0)), (1006, (1.0, 2.0, 3.0))])
def test_vectors_are_lps_by_ants_and_ras_where_nifti_says_displacement(tmp_path, intent, moved):
    """NIFTI_INTENT_VECTOR is what ANTs writes (LPS); NIFTI_INTENT_DISPVECT is defined in RAS, and ITK honours that."""
    path = write_field(tmp_path / "f.nii.gz", np.broadcast_to([1.0, 2.0, 3.0], (5, 6, 7, 3)), intent)

    np.testing.assert_allclose(load_transform(path)(np.array([[6.0, 6.0, 6.0]])), [np.add(6.0, moved)])


def test_a_chain_applies_its_first_member_first(tmp_path):
    sitk.WriteTransform(sitk.ScaleTransform(3, (2, 2, 2)), str(tmp_path / "double.tfm"))
    sitk.WriteTransform(sitk.TranslationTransform(3, (0, 0, 5)), str(tmp_path / "up.mat"))
    write_chain(tmp_path / "inner.json", {"path": "up.mat", "invert": True})
    chain = write_chain(tmp_path / "chain.json", {"path": "double.tfm"}, {"path": "inner.json", "invert": True})

    np.testing.assert_allclose(load_transform(chain)(np.array([[1.0, 1.0, 1.0]])), [[2.0, 2.0, 7.0]])
    assert {path.name for path in members(chain)} == {"chain.json", "double.tfm", "inner.json", "up.mat"}


def test_a_chain_that_names_itself_is_refused(tmp_path):
    write_chain(tmp_path / "b.json", {"path": "a.json"})
    with pytest.raises(TransformError, match=r"contains itself \(a.json → b.json → a.json\)"):
        load_transform(write_chain(tmp_path / "a.json", {"path": "b.json"}))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"transforms": []}',
        '{"transforms": [{"invert": true}]}',
        '{"transforms": [{"path": "a", "inverse": 1}]}',
    ],
)
def test_a_json_that_is_not_a_chain_is_refused_with_an_example(tmp_path, content):
    (tmp_path / "chain.json").write_text(content)
    with pytest.raises(TransformError) as error:
        load_transform(tmp_path / "chain.json")
    assert "chain.json" in str(error.value)
    assert '"transforms"' in error.value.to_fix


@pytest.mark.parametrize("name", ["topup-coeff.nii.gz", "topup-coeff-fixed.nii.gz", "topup-field.nii.gz"])
def test_fields_of_fsl_are_refused_by_name(shared_data, name):
    with pytest.raises(TransformError, match=f"{name}.*FSL"):
        load_transform(shared_data / "xfm" / name)


def test_images_that_are_not_fields_are_refused_by_name(tmp_path):
    scalar = nibabel.Nifti1Image(np.zeros((5, 6, 7), np.float32), np.eye(4))
    scalar.to_filename(tmp_path / "scalar.nii.gz")
    write_field(tmp_path / "two.nii.gz", np.zeros((5, 6, 7, 2)))
    write_field(tmp_path / "fsl.nii.gz", np.zeros((5, 6, 7, 3)), intent=0, shape5=False)
    (tmp_path / "text.nii.gz").write_text("no image")
    for name, reason in {"scalar": "scalar map", "two": "2 components", "fsl": "FSL", "text": "not a NIfTI"}.items():
        with pytest.raises(TransformError, match=f"{name}.nii.gz.*{reason}"):
            load_transform(tmp_path / f"{name}.nii.gz")


def test_a_field_with_nan_is_refused(tmp_path):
    vectors = np.zeros((5, 6, 7, 3))
    vectors[2, 2, 2] = np.nan
    with pytest.raises(TransformError, match="not numbers"):
        load_transform(write_field(tmp_path / "f.nii.gz", vectors))


def test_a_truncated_file_gives_one_error_and_no_noise(shared_data, tmp_path, capfd):
    """The HDF5 library writes pages to the terminal before it gives up."""
    whole = (shared_data / "xfm/affine-antsComposite.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[:5000])
    with pytest.raises(TransformError, match=r"cut.h5: the file is cut off"):
        load_transform(tmp_path / "cut.h5")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["t.h5", "t.mat", "t.tfm", "t.xyz"])
def test_arbitrary_content_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_text("1 0 0 0\n0 1 0 0\n")
    with pytest.raises(TransformError, match=name):
        load_transform(tmp_path / name)


def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path):
    (tmp_path / "warp.lta").write_text("type = 1")
    with pytest.raises(TransformError, match=r"warp\.lta.*no known transform format") as error:
        load_transform(tmp_path / "warp.lta")
    assert all(suffix in error.value.to_fix for suffix in (*READERS, ".json"))


def test_every_format_that_a_data_set_may_hold_can_be_read():
    assert set(EXTENSIONS) <= {*READERS, ".json"}


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TransformError, match=r"gone.h5: no such transform"):
        load_transform(write_chain(tmp_path / "c.json", {"path": "gone.h5"}))


def test_a_transform_of_the_plane_is_not_taken_for_one_of_space(tmp_path):
    sitk.WriteTransform(sitk.Euler2DTransform(), str(tmp_path / "plane.tfm"))
    with pytest.raises(TransformError, match="2 dimensions where one in 3"):
        load_transform(tmp_path / "plane.tfm")


def test_a_singular_matrix_is_refused_with_its_file(tmp_path):
    sitk.WriteTransform(sitk.ScaleTransform(3, (1, 1, 0)), str(tmp_path / "flat.tfm"))
    with pytest.raises(TransformError, match=r"flat.tfm.*singular"):
        load_transform(tmp_path / "flat.tfm")


def test_nan_in_a_composite_is_refused_with_its_file_and_a_remedy(tmp_path):
    image = sitk.GetImageFromArray(np.full((5, 6, 7, 3), np.nan), isVector=True)
    field = sitk.DisplacementFieldTransform(sitk.Cast(image, sitk.sitkVectorFloat64))
    sitk.WriteTransform(sitk.CompositeTransform([sitk.TranslationTransform(3), field]), str(tmp_path / "holes.h5"))
    with pytest.raises(TransformError, match=r"holes.h5.*not numbers") as error:
        load_transform(tmp_path / "holes.h5")
    assert error.value.to_fix


def test_a_field_whose_header_is_broken_is_refused_by_name(tmp_path):
    """No size, no spacing, no place, or cut short."""
    whole = write_field(tmp_path / "whole.nii", np.ones((5, 6, 7, 3))).read_bytes()
    broken = {
        "cut.nii": whole[:2000],
        "sizeless.nii": whole[:40] + bytes(16) + whole[56:],
        "spaceless.nii": whole[:76] + bytes(32) + whole[108:],
        "placeless.nii": whole[:252] + bytes(4) + whole[256:],
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TransformError, match=name) as error:
            load_transform(tmp_path / name)
        assert error.value.to_fix


def test_a_bspline_file_is_read(tmp_path):
    theirs = sitk.BSplineTransformInitializer(sitk.Image(60, 50, 40, sitk.sitkFloat32), (4, 4, 4), 3)
    theirs.SetParameters(np.random.default_rng(1).normal(0, 3, len(theirs.GetParameters())))
    inside = np.random.default_rng(2).uniform(0, 40, (500, 3))
    expected = np.array([theirs.TransformPoint(p) for p in inside.tolist()]) * LPS
    for name in ("spline.tfm", "spline.h5", "spline.mat"):
        sitk.WriteTransform(theirs, str(tmp_path / name))
        assert np.abs(load_transform(tmp_path / name)(inside * LPS) - expected).max() < 1e-3
