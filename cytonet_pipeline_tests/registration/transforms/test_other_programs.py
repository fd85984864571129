"""Transform files of other programs: each is refused with the remedy for its program, or read where it is ITK's."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy.io import savemat

from cytonet_pipeline.errors import TransformError
from cytonet_pipeline.registration import load_transform
from cytonet_pipeline.registration.transforms.itk import from_itk
from cytonet_pipeline_tests.registration.conftest import LPS

GENERIC = (
    "#Insight Transform File V1.0\n#Transform 0\nTransform: MatrixOffsetTransformBase_double_3_3\n"
    "Parameters: 1 0.1 0 -0.2 1 0.3 0 0 0.9 5 6 7\nFixedParameters: 1 2 3\n"
)
ELASTIX = '(Transform "BSplineTransform")\n(NumberOfParameters 12)\n(TransformParameters 1 2 3 4 5 6 7 8 9 10 11 12)\n'
FLIRT = "1  0  0  2  \n0  1  0  3  \n0  0  1  4.5e-1  \n0  0  0  1  \n"
LTA = "type      = 1 # LINEAR_RAS_TO_RAS\nnxforms   = 1\nmean      = 0.0 0.0 0.0\n"


@pytest.mark.parametrize(
    ("name", "content", "words", "remedy"),
    [
        ("TransformParameters.0.txt", ELASTIX, "elastix", "transformix -def all"),
        ("elastix.tfm", "// a comment\n" + ELASTIX, "elastix", "docs/programs/elastix.md"),
        ("flirt.mat", FLIRT, "bare matrix", "c3d_affine_tool"),
        ("aladin.txt", "1 0 0 2\n0 1 0 3\n0 0 1 4\n0 0 0 1\n", "NiftyReg", "docs/programs/niftyreg.md"),
        ("minc.txt", "MNI Transform File\nTransform_Type = Linear;\n", "MINC", "3D Slicer"),
        ("free.txt", LTA, "FreeSurfer", "lta_convert"),
        ("old.tfm", GENERIC.replace("MatrixOffsetTransformBase", "BSplineDeformableTransform"), "ITK 3", "3D Slicer"),
        ("own.tfm", GENERIC.replace("MatrixOffsetTransformBase", "OurTransform"), "OurTransform_double_3_3", "affine"),
    ],
)  # fmt: skip
def test_a_text_file_of_another_program_is_refused_with_its_remedy(tmp_path, name, content, words, remedy):
    (tmp_path / name).write_text(content)
    with pytest.raises(TransformError, match=f"{name}.*{words}") as error:
        load_transform(tmp_path / name)
    assert remedy in error.value.to_fix


def test_a_file_of_matlab_is_refused_with_the_remedy_for_spm(tmp_path):
    savemat(tmp_path / "sn.mat", {"Affine": np.eye(4)})
    with pytest.raises(TransformError, match=r"sn\.mat: a MATLAB file \(version 5\.0\)") as error:
        load_transform(tmp_path / "sn.mat")
    assert "docs/programs/spm.md" in error.value.to_fix


def test_the_generic_linear_transform_of_c3d_is_read_alone_and_in_a_composite(tmp_path):
    """SimpleITK wraps it as a composite that contains itself, without end."""
    (tmp_path / "c3d.txt").write_text(GENERIC)
    matrix = np.array([[1, 0.1, 0], [-0.2, 1, 0.3], [0, 0, 0.9]])
    centre = np.array([1.0, 2.0, 3.0])
    points = np.random.default_rng(0).uniform(-90, 90, (100, 3))
    expected = ((points * LPS - centre) @ matrix.T + centre + [5, 6, 7]) * LPS

    np.testing.assert_allclose(load_transform(tmp_path / "c3d.txt")(points), expected, atol=1e-9)

    translation = "#Transform 0\nTransform: TranslationTransform_double_3_3\nParameters: 1 2 3\nFixedParameters:\n"
    composite = "#Insight Transform File V1.0\n#Transform 0\nTransform: CompositeTransform_double_3_3\n"
    (tmp_path / "both.tfm").write_text(composite + translation + GENERIC.split("\n", 1)[1])
    moved = load_transform(tmp_path / "both.tfm")(points)
    np.testing.assert_allclose(moved, expected + LPS * [1, 2, 3], atol=1e-9)


def test_composites_of_one_composite_are_no_generic_transforms():
    deep = sitk.CompositeTransform([sitk.CompositeTransform([sitk.TranslationTransform(3, (0, 0, 5))])])

    np.testing.assert_allclose(from_itk(deep)(np.zeros((1, 3))), [[0, 0, 5]])


def test_a_chain_with_a_byte_order_mark_is_read(tmp_path):
    """Editors on Windows write it."""
    sitk.WriteTransform(sitk.TranslationTransform(3, (0, 0, 5)), str(tmp_path / "up.mat"))
    (tmp_path / "c.json").write_text('{"transforms": [{"path": "up.mat"}]}', encoding="utf-8-sig")

    np.testing.assert_allclose(load_transform(tmp_path / "c.json")(np.zeros((1, 3))), [[0, 0, 5]])


def test_fields_of_connectome_workbench_are_refused_until_they_are_said_to_be_lps(tmp_path):
    """Its header is the same for LPS and RAS vectors: only what the person asked it for tells them apart."""
    image = nibabel.Nifti1Image(np.full((4, 4, 4, 1, 3), 2, np.float32), np.eye(4))
    image.header.set_intent(1007, (), "vector")
    image.header["descrip"] = "Connectome Workbench, version 1.5.0"
    nibabel.save(image, tmp_path / "workbench.nii.gz")

    with pytest.raises(TransformError, match=r"workbench\.nii\.gz: a field of Connectome Workbench") as refused:
        load_transform(tmp_path / "workbench.nii.gz")
    assert "docs/programs/fsl.md" in refused.value.to_fix


@pytest.mark.skipif(shutil.which("wb_command") is None, reason="wb_command (Connectome Workbench) is not installed")
def test_a_warp_of_fnirt_is_read_after_the_conversion_in_the_documents(tmp_path, monkeypatch):
    """Positions by FSL's rule: index times voxel size, plus the displacement, in the voxels of the moving image."""
    monkeypatch.chdir(tmp_path)
    fixed, moving = np.diag([-2.0, 2, 2, 1]), np.diag([-1.5, 1.5, 1.5, 1])
    fixed[:3, 3], moving[:3, 3] = [40, -30, -20], [45, -35, -25]
    index = np.moveaxis(np.indices((20, 22, 18)), 0, -1)
    warp = np.stack([2 * np.sin(index[..., 0] / 6), np.cos(index[..., 1] / 7), index[..., 2] * 0.05 - 1], -1)
    nibabel.save(nibabel.Nifti1Image(warp.astype(np.float32), fixed), "warp.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros((40, 42, 38), np.float32), moving), "moving.nii.gz")
    page = (Path(__file__).parents[3] / "docs/programs/fsl.md").read_text()
    for command in (re.search(r"`(wb_command [^`]+)`", page)[1], re.search(r"^(python -c .+)$", page, re.M)[1]):
        subprocess.run([sys.executable if a == "python" else a for a in shlex.split(command)], check=True)

    chosen = np.random.default_rng(0).integers(1, 17, (100, 3))
    expected = (chosen * 2.0 + warp[tuple(chosen.T)]) / 1.5 @ moving[:3, :3].T + moving[:3, 3]
    mapped = load_transform("itk.nii.gz")(chosen @ fixed[:3, :3].T + fixed[:3, 3])

    np.testing.assert_allclose(mapped, expected, atol=1e-5)
