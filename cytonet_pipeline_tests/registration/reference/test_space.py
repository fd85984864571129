"""The reference space: files that it refuses, and values at points."""

import os
import shutil

import nibabel
import numpy as np
import pytest

from cytonet_pipeline.errors import ReferenceSpaceError
from cytonet_pipeline.registration import ReferenceSpace

ATLAS = "tpl-MNIColin27_atlas-Toy_dseg"
LEFT, RIGHT = np.array([-32.0, 0.0, 0.0]), np.array([32.0, 0.0, 0.0])


@pytest.fixture
def copied(reference_folder, tmp_path):
    return shutil.copytree(reference_folder, tmp_path / "tpl-MNIColin27")


def rewrite(path, change):
    image = nibabel.load(path)
    data = change(np.asanyarray(image.dataobj))
    image.uncache()
    nibabel.Nifti1Image(data, image.affine).to_filename(path)


@pytest.mark.parametrize("keeps_its_time", [False, True])
def test_a_space_is_read_again_only_after_a_file_of_it_was_replaced(copied, keeps_its_time):
    first = ReferenceSpace.load(copied)
    assert ReferenceSpace.load(str(copied)) is first
    mask = copied / "tpl-MNIColin27_res-01_desc-brain_mask.nii.gz"
    before = mask.stat()

    rewrite(mask, lambda inside: inside * 0 + 1)
    if keeps_its_time:
        os.utime(mask, ns=(before.st_atime_ns, before.st_mtime_ns))
    second = ReferenceSpace.load(copied)

    corner = second.atlas()[1][:3, 3][None]
    assert second.digest != first.digest
    assert second.inside_brain(corner).all()
    assert not first.inside_brain(corner).any()


def test_a_description_that_is_changed_later_is_seen(copied):
    assert ReferenceSpace.load(copied).synthetic

    (copied / "template_description.json").write_text('{"Synthetic": false}')

    assert not ReferenceSpace.load(copied).synthetic


@pytest.mark.parametrize(
    "name",
    [
        "res-01_T1w.nii.gz",
        "res-01_desc-brain_mask.nii.gz",
        "atlas-Toy_dseg.tsv",
        "hemi-L_pial.surf.gii",
        "hemi-R_inflated.surf.gii",
    ],
)
def test_a_missing_file_is_named(copied, name):
    (copied / f"tpl-MNIColin27_{name}").unlink()
    with pytest.raises(ReferenceSpaceError, match=name.replace(".", r"\.")):
        ReferenceSpace.load(copied)


def test_two_atlases_are_refused(copied):
    shutil.copy(copied / f"{ATLAS}.nii.gz", copied / "tpl-MNIColin27_atlas-Other_dseg.nii.gz")
    with pytest.raises(ReferenceSpaceError, match="2 atlases"):
        ReferenceSpace.load(copied)


def test_labels_squeezed_into_eight_bits_are_refused(copied):
    """Right-hemisphere labels are left + 1000: as uint8 they become other labels, silently."""
    rewrite(copied / f"{ATLAS}.nii.gz", lambda labels: labels.astype(np.uint8))
    with pytest.raises(ReferenceSpaceError, match=f"{ATLAS}.nii.gz: labels .*are not in"):
        ReferenceSpace.load(copied)


def test_an_interpolated_atlas_is_refused(copied):
    rewrite(copied / f"{ATLAS}.nii.gz", lambda labels: labels.astype(np.float32) + 0.25 * (labels == 1))
    with pytest.raises(ReferenceSpaceError, match="interpolated"):
        ReferenceSpace.load(copied)


@pytest.mark.parametrize(("before", "after"), [("\tL\t", "\tleft\t"), ("\tgap", "\tcortex"), ("color", "colour")])
def test_a_label_table_out_of_contract_is_refused(copied, before, after):
    table = copied / f"{ATLAS}.tsv"
    table.write_text(table.read_text().replace(before, after))
    with pytest.raises(ReferenceSpaceError, match=f"{ATLAS}.tsv"):
        ReferenceSpace.load(copied)


def test_a_damaged_surface_is_named(copied):
    path = copied / "tpl-MNIColin27_hemi-R_white.surf.gii"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ReferenceSpaceError, match="hemi-R_white"):
        ReferenceSpace.load(copied)


def test_the_digest_follows_the_files_and_not_their_place(copied, reference):
    assert ReferenceSpace.load(copied).digest == reference.digest
    (copied / f"{ATLAS}.tsv").write_text((copied / f"{ATLAS}.tsv").read_text().replace("Label 1", "Label one"))
    assert ReferenceSpace.load(copied).digest != reference.digest


def test_a_synthetic_reference_says_so(reference, copied):
    assert reference.synthetic
    (copied / "template_description.json").unlink()
    assert not ReferenceSpace.load(copied).synthetic


def test_labels_areas_and_hemispheres_at_points(reference):
    up, down, front = np.array([0, -5, 22.0]), np.array([0, -5, -22.0]), np.array([0, 24.0, 1])
    points = np.array([LEFT + up, RIGHT + up, RIGHT + down, LEFT + front, RIGHT, [0, 0, 300.0], [np.nan, 0, 0]])

    assert reference.atlas_at(points).tolist() == [1, 1001, 1002, 3, 1004, 0, 0]
    assert reference.area_at(points).tolist() == [1, 1, 2, 0, 0, 0, 0]
    assert reference.hemisphere_at(points)[:5].tolist() == ["L", "R", "R", "L", "R"]
    assert reference.hemisphere_at(points)[6] == ""


def test_where_no_label_is_the_nearer_pial_surface_decides(reference):
    assert reference.hemisphere_at(np.array([[-8.0, 0, 38.0], [8.0, 0, 38.0], [-90.0, 0, 0]])).tolist() == [
        "L",
        "R",
        "L",
    ]


def test_volumes_meet_through_their_affines(shared_data, colin27):
    """T1w and atlas have different grids: nibabel's own affine, voxel by voxel."""
    atlas = nibabel.load(shared_data / "tpl-MNIColin27/tpl-MNIColin27_atlas-JulichBrain30_dseg.nii.gz")
    labels = np.asanyarray(atlas.dataobj)
    voxels = np.argwhere(labels)[:: len(np.argwhere(labels)) // 5_000]
    points = nibabel.affines.apply_affine(atlas.affine, voxels) + np.random.default_rng(0).uniform(
        -0.49, 0.49, voxels.shape
    )

    np.testing.assert_array_equal(colin27.atlas_at(points), labels[tuple(voxels.T)])
    assert labels.max() > 1000
    assert colin27.t1w()[0].shape == (181, 217, 181)


def test_depth_runs_from_pial_to_white(reference):
    """Columns of the toy cortex are straight: the exact depth is the share of the way."""
    vertices = reference.surface("R", "pial")[0]
    white = reference.surface("R", "white")[0]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        depth = reference.depth_at(vertices + share * (white - vertices))
        assert np.abs(depth - share).mean() < 0.03
    beyond = RIGHT + 1.1 * (vertices - RIGHT)
    within = RIGHT + 0.8 * (white - RIGHT)
    assert (reference.depth_at(beyond) == 0).mean() > 0.99
    assert (reference.depth_at(within) == 1).mean() > 0.99
    assert np.isnan(reference.depth_at(np.full((1, 3), np.nan))).all()


def test_normals_point_to_the_pial_side(reference):
    points = reference.cortex_points(2_000, seed=0)
    centres = np.where(points[:, :1] < 0, LEFT, RIGHT)

    normals = reference.normal_at(points)

    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-9)
    outward = (points - centres) / np.linalg.norm(points - centres, axis=1, keepdims=True)
    assert np.einsum("ij,ij->i", normals, outward).min() > 0.3


def test_cortex_points_are_reproducible_and_lie_in_the_cortex(colin27):
    points = colin27.cortex_points(20_000, seed=3)

    np.testing.assert_array_equal(points, colin27.cortex_points(20_000, seed=3))
    assert colin27.inside_brain(points).mean() > 0.99
    assert (colin27.atlas_at(points) > 0).mean() > 0.94
    assert np.quantile(np.abs(colin27.depth_at(points) - 0.5), 0.9) < 0.2


def test_real_depth_agrees_with_straight_columns(colin27):
    """White and pial do not share vertices: the column of a white vertex ends at the nearest pial place."""
    white = colin27.cortex.white["L"].vertices_mm
    nearest = colin27.cortex.pial["L"].nearest(white)
    thick = nearest.distance_mm > 0.5
    for share in (0.25, 0.75):
        points = (nearest.point_mm + share * (white - nearest.point_mm))[thick]
        error = np.abs(colin27.depth_at(points) - share)
        assert np.median(error) < 0.02
        assert np.quantile(error, 0.95) < 0.12


def test_medoids_of_two_halves_of_a_ball_are_a_half_turn_apart(reference):
    distances = reference.area_medoid_distances([1, 2, 3])

    assert distances.loc[1, 1] == 0
    assert distances.loc[1, 2] == distances.loc[2, 1]
    # Areas 1 and 2 are the upper and lower half of a ball of radius 22 mm, less a cap in front.
    assert 0.6 * np.pi * 22 < distances.loc[1, 2] < 1.5 * np.pi * 22
    assert distances.loc[3].isna().all()


def test_neighbouring_areas_lie_nearer_along_the_cortex_than_areas_of_other_lobes(colin27):
    names = {name.split()[1]: area for name, area in colin27.atlas_labels[["name", "area"]].to_numpy()}
    motor, motor_next, visual = names["4a"], names["4p"], names["hOc1"]

    distances = colin27.area_medoid_distances([motor, motor_next, visual])

    assert distances.loc[motor, motor_next] < 60
    assert distances.loc[motor, visual] > 100
    np.testing.assert_allclose(distances, distances.T)


def test_a_volume_that_is_not_in_mm_is_refused(copied):
    path = copied / "tpl-MNIColin27_res-01_T1w.nii.gz"
    image = nibabel.load(path)
    image.header.set_xyzt_units("micron")
    image.to_filename(path)
    with pytest.raises(ReferenceSpaceError, match=r"T1w\.nii\.gz: its grid is in micrometres"):
        ReferenceSpace.load(copied)


def test_a_volume_is_placed_by_its_sform_and_flagged_where_the_qform_differs(copied, reference):
    path = copied / "tpl-MNIColin27_atlas-Toy_dseg.nii.gz"
    image = nibabel.load(path)
    image.header.set_sform(image.affine, 1)
    image.header.set_qform(image.affine + 3 * np.eye(4, k=3), 1)
    image.to_filename(path)

    loaded = ReferenceSpace.load(copied)

    assert reference.notes == ()
    assert len(loaded.notes) == 1
    assert loaded.notes[0].startswith(f"{path.name}: its sform and qform place it up to 1.5 voxels (3.00 mm) apart")
    np.testing.assert_allclose(loaded.atlas()[1], reference.atlas()[1])
