"""Predicted areas: the grid on sections, the volume in the reference, and agreement with annotations and atlas."""

import nibabel
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.evaluation.maps.area_maps import agreement, mapped_brains, mapped_protocol
from cytonet_pipeline.evaluation.maps.label_volume import (
    MAX_DISTANCE_MM,
    atlas_ids,
    label_table,
    label_volume,
    read_volume,
    write_volume,
)
from cytonet_pipeline.evaluation.maps.map_grid import map_grid, section_grid_px
from cytonet_pipeline.histology import survey
from cytonet_pipeline.lineage import brains_left_out
from cytonet_pipeline.patches.masks import CortexMask
from cytonet_pipeline.registration import ReferenceSpace, resolve_chain
from cytonet_pipeline.settings import DatasetBlock
from cytonet_pipeline.stages import AREA_MAPS

BLOCK = DatasetBlock(density_per_mm3=0.02, held_out="B20")


@pytest.fixture(scope="module")
def reference(small_brains):
    return ReferenceSpace.load(small_brains / "tpl-MNIColin27")


@pytest.fixture(scope="module")
def grid(small_brains, reference):
    brain = Dataset(small_brains / "brains", BLOCK).brain("B20")
    return map_grid(brain, survey(brain, BLOCK), resolve_chain(brain), reference, 4.0)


def perfect(reference, every=7):
    """Predictions that are the atlas itself, at every nth labelled voxel."""
    atlas, affine = reference.atlas()
    table = reference.atlas_labels.set_index("index")
    voxels = np.argwhere(np.isin(atlas, table.index[table["kind"] == "area"]))[::every]
    labels = atlas[tuple(voxels.T)]
    points = voxels @ affine[:3, :3].T + affine[:3, 3]
    rows = pd.DataFrame(points, columns=["ref_x_mm", "ref_y_mm", "ref_z_mm"])
    rows["hemisphere"], rows["predicted_area"] = table.loc[labels, ["hemisphere", "area"]].to_numpy().T
    return rows.assign(predicted_area=rows["predicted_area"].astype(int), probability=0.5, reach_mm=3.0), voxels, labels


def test_a_volume_of_the_atlas_itself_is_the_atlas(reference):
    """Ids of both hemispheres, the affine and the order of axes have to be right for that."""
    rows, voxels, labels = perfect(reference)

    volume = label_volume(rows, reference, 1.0)

    np.testing.assert_array_equal(volume.labels[tuple(voxels.T)], labels)
    assert (volume.probability[tuple(voxels.T)] == 0.5).all()
    assert volume.labels.max() > 255  # ids of the right hemisphere need more than eight bits


def test_predictions_do_not_reach_beyond_their_limit(reference):
    rows, _, _ = perfect(reference)
    anterior = rows[rows["ref_y_mm"] > rows["ref_y_mm"].quantile(0.9)]

    volume = label_volume(anterior, reference, 1.0)

    filled = np.argwhere(volume.labels > 0) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    limit_mm = np.hypot(3.0, 1.0)
    assert filled[:, 1].min() >= anterior["ref_y_mm"].min() - limit_mm
    assert limit_mm < MAX_DISTANCE_MM
    assert volume.figures["predicted_voxels"] == len(filled) < volume.figures["cortex_voxels"]


def test_a_prediction_stays_in_its_hemisphere(reference):
    rows, _, _ = perfect(reference)

    volume = label_volume(rows[rows["hemisphere"] == "L"], reference, 1.0)

    left = label_table(reference).query("hemisphere == 'L'")["index"]
    assert set(np.unique(volume.labels)) <= {0, *left}


def test_an_area_that_the_atlas_does_not_have_stays_zero_and_is_named(reference):
    rows, _, _ = perfect(reference, every=101)

    volume = label_volume(rows.assign(predicted_area=9999), reference, 1.0)

    assert not volume.labels.any()
    assert not volume.probability.any()
    assert volume.figures["areas_not_in_atlas"] == [9999]


def test_ids_of_a_hemisphere_are_those_of_the_atlas_table(reference):
    table = reference.atlas_labels.query("kind == 'area' and hemisphere == 'R'")

    np.testing.assert_array_equal(atlas_ids(table["area"].to_numpy(), "R", reference), table["index"])


def test_a_volume_lies_on_disk_as_it_was(reference, tmp_path):
    _, affine = reference.atlas()
    labels = np.arange(24, dtype=np.uint16).reshape(2, 3, 4) + 1000
    write_volume(tmp_path / "sub-B20_dseg.nii.gz", labels, affine)

    data, read = read_volume(tmp_path / "sub-B20_dseg.nii.gz")

    np.testing.assert_array_equal(data, labels)
    np.testing.assert_allclose(read, affine)
    assert nibabel.load(tmp_path / "sub-B20_dseg.nii.gz").get_data_dtype() == np.uint16
    assert [p.name for p in tmp_path.iterdir()] == ["sub-B20_dseg.nii.gz"]


def test_the_grid_lies_in_the_mask_at_its_spacing():
    inside = np.zeros((40, 60), dtype=bool)
    inside[10:30, 20:50] = True
    xy_px = section_grid_px(CortexMask(inside, (0.5, 0.5)), pixel_um=100.0, spacing_mm=(2.0, 2.0))

    at = xy_px * 0.1 / 0.5
    assert inside[at[:, 1].astype(int), at[:, 0].astype(int)].all()
    assert set(np.diff(np.unique(xy_px[:, 0]))) == {20}
    assert len(xy_px) == pytest.approx(inside.sum() * 0.25 / 4, rel=0.2)


def test_every_section_has_a_grid_in_the_cortex_of_the_reference(grid, reference):
    points_mm = grid[["ref_x_mm", "ref_y_mm", "ref_z_mm"]].to_numpy()

    assert grid["sample"].nunique() == 6
    assert grid["patch_id"].is_unique
    assert reference.inside_brain(points_mm).mean() > 0.95
    assert (reference.hemisphere_at(points_mm) == grid["hemisphere"]).all()


def test_grid_points_know_their_annotation(grid, reference):
    """Annotations of a synthetic brain are the atlas's areas, borders moved by a few mm."""
    annotated = grid[grid["annotated_area"] > 0]
    areas = reference.area_at(annotated[["ref_x_mm", "ref_y_mm", "ref_z_mm"]].to_numpy())

    assert (areas[areas > 0] == annotated["annotated_area"][areas > 0]).mean() > 0.6


def test_agreement_is_counted_separately_for_each_role():
    random = np.random.default_rng(0)
    rows = pd.DataFrame({"brain": "B20", "sample": random.choice(["1", "2"], 400)})
    rows["annotated_area"] = random.choice([0, 1, 2, 3], 400)
    rows["predicted_area"] = random.choice([1, 2], 400)
    index = pd.MultiIndex.from_tuples([("B20", "1"), ("B20", "2")], names=["brain", "sample"])

    found = agreement(rows, pd.Series(["train", "seen_brains"], index=index), np.array([1, 2]))

    known = rows[(rows["sample"] == "2") & rows["annotated_area"].isin([1, 2])]
    assert found["seen_brains"]["n_points"] == len(known)
    assert found["seen_brains"]["macro_f1"] == pytest.approx(
        f1_score(known["annotated_area"], known["predicted_area"], average="macro"), abs=1e-5
    )
    assert (
        found["train"]["n_points_of_unknown_areas"] == ((rows["sample"] == "1") & (rows["annotated_area"] == 3)).sum()
    )


def test_the_unseen_brain_is_mapped_with_the_longest_probe(made):
    assert mapped_brains("made_up", made.settings) == ("B20",)
    assert mapped_protocol("made_up", made.settings) == "linear_E30"


def test_the_map_of_a_brain_that_is_not_released_any_more_is_not_current(made):
    before = AREA_MAPS.inputs(made.settings, "made_up")
    (made.settings.data / "participants.tsv").write_text("participant_id\tingest\nsub-B20\twithdrawn\n")

    now = AREA_MAPS.inputs(made.settings, "made_up")

    assert now["brains"]["B20"] == {
        **before["brains"]["B20"],
        "left out": brains_left_out(made.settings, ["B20"])["B20"],
    }
