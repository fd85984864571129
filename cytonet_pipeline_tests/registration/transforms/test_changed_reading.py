"""Only results from files that are read otherwise than by 0.2.1 are made again."""

import dataclasses
import json

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from cytonet_pipeline.registration.transforms.changed_reading import read_otherwise
from cytonet_pipeline.stages import histology
from cytonet_pipeline_tests.conftest import settings_for
from cytonet_pipeline_tests.registration.transforms import fields_as_written as written

VECTORS = np.zeros((*written.SHAPE, 3))


def write_placed(path, qform, sform):
    # With these codes ITK takes the qform.
    image = nibabel.Nifti1Image(VECTORS[..., None, :].astype(np.float32), written.grid())
    image.header.set_intent(1007)
    image.set_qform(qform, 2)
    image.set_sform(sform, 2)
    image.to_filename(path)


def test_files_that_are_read_as_before_are_not_listed(tmp_path, shared_data):
    written.write(tmp_path / "ants.nii.gz", VECTORS)
    written.write(tmp_path / "dispvect.nii.gz", VECTORS, intent=1006)
    sitk.WriteTransform(sitk.AffineTransform(3), str(tmp_path / "a.mat"))
    (tmp_path / "c.json").write_text(json.dumps({"transforms": [{"path": "ants.nii.gz"}, {"path": "gone.h5"}]}))
    (tmp_path / "damaged.nii.gz").write_bytes(b"no image")
    real = [*(shared_data / "xfm").iterdir(), *(shared_data / "colin27-brains").glob("derivatives/registration/*/*.h5")]

    assert read_otherwise([*tmp_path.iterdir(), *real]) == []


def test_files_whose_reading_has_changed_are_listed_also_behind_a_chain(tmp_path):
    moved = written.grid()
    moved[:3, 3] += 5
    written.write(tmp_path / "nifti2.nii", VECTORS, version=2)
    written.write(tmp_path / "niftyreg.nii", VECTORS, name="NREG_TRANS")
    written.write(tmp_path / "plane.nii", np.zeros((7, 8, 1, 2)), intent=1006, affine=np.eye(4))
    write_placed(tmp_path / "two_places.nii", written.grid(), moved)
    write_placed(tmp_path / "sheared.nii", moved, moved @ np.array([[1, 0.3, 0, 0], *np.eye(4)[1:]]))
    content = bytearray(written.write(tmp_path / "metres.nii", VECTORS).read_bytes())
    content[123] = 1
    (tmp_path / "metres.nii").write_bytes(content)
    names = sorted(path.name for path in tmp_path.iterdir())
    chain = tmp_path / "chain.json"
    chain.write_text(json.dumps({"transforms": [{"path": name} for name in names]}), encoding="utf-8-sig")

    assert read_otherwise([chain]) == sorted(["chain.json", *names])


def test_where_itk_took_the_sform_too_nothing_is_made_again(tmp_path):
    moved = written.grid()
    moved[:3, 3] += 5
    image = nibabel.Nifti1Image(VECTORS[..., None, :].astype(np.float32), written.grid())
    image.header.set_intent(1007)
    image.set_qform(moved, 2)
    image.set_sform(written.grid(), 1)
    image.to_filename(tmp_path / "f.nii")
    itk_takes_sform = np.allclose(
        sitk.ReadImage(str(tmp_path / "f.nii")).GetOrigin(), written.grid()[:3, 3] * [-1, -1, 1]
    )

    assert read_otherwise([tmp_path / "f.nii"]) == ([] if itk_takes_sform else ["f.nii"])


@pytest.mark.parametrize("mark", [False, True])
def test_the_transforms_of_a_brain_become_stale_only_with_such_a_file(small_brains, tmp_path, monkeypatch, mark):
    stage, whole = histology.COLIN27_TRANSFORMS, histology.brain_of
    settings = settings_for(small_brains, tmp_path / "store")
    chain = tmp_path / "chain.json"
    named = {"transforms": [{"path": str(whole(settings, "B01").to_reference)}]}
    chain.write_text(json.dumps(named), encoding="utf-8-sig" if mark else "utf-8")
    monkeypatch.setattr(histology, "brain_of", lambda *which: dataclasses.replace(whole(*which), to_reference=chain))

    inputs = stage.inputs(settings, "B01")

    assert inputs.pop("read otherwise since 0.2.1", []) == (["chain.json"] if mark else [])
    assert set(inputs) == {"brain", "reference", "sections", "code"}
