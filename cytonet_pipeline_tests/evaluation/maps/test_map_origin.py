"""From a voxel of a map back to where its label comes from, and to the training sections nearest to it."""

import shutil

import nibabel
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cytonet_pipeline.cli import app
from cytonet_pipeline.errors import ConfigurationError, StoreError
from cytonet_pipeline.evaluation.maps.map_origin import find_map, origin_of_voxel
from cytonet_pipeline.lineage import nearest_training_sections
from cytonet_pipeline.store import REFERENCE_MM, Store, read_table

# One worker builds the finished run that these tests read.
pytestmark = pytest.mark.xdist_group("ran")
NAME = "tiny_cytonet"


@pytest.fixture
def store(ran) -> Store:
    return Store(ran.settings.store)


@pytest.fixture
def labelled(store):
    """Some voxels with a label, their indices and centres, as nibabel reads them."""
    image = nibabel.load(find_map(NAME, store).path)
    labels = np.asanyarray(image.dataobj)
    voxels = np.argwhere(labels > 0)[::997][:12]
    return [(voxel, nibabel.affines.apply_affine(image.affine, voxel), int(labels[tuple(voxel)])) for voxel in voxels]


def test_a_label_comes_from_the_grid_point_that_predicted_it(store, labelled):
    made = find_map(NAME, store)
    areas = pd.read_csv(str(made.path).replace(".nii.gz", ".tsv"), sep="\t").set_index("index")

    for voxel, centre_mm, label in labelled:
        origin = origin_of_voxel(made, centre_mm, in_voxels=False, store=store)

        assert origin.voxel == tuple(voxel)
        assert origin.label == label
        assert origin.grid["predicted_area"] == areas.loc[label, "area"]
        assert origin.area.startswith(areas.loc[label, "name"])
        assert (origin.probe / "probe.safetensors").exists()
        by_index = origin_of_voxel(made, voxel.astype(float), in_voxels=True, store=store)
        assert by_index.grid == origin.grid


def test_the_nearest_training_sections_are_those_of_a_loop(store, labelled):
    _, point_mm, _ = labelled[3]
    patches = read_table(store.current_encoder(NAME) / "patches.parquet", "training_patches")
    expected: dict[tuple[str, str], float] = {}
    for row in patches[patches["role"] == "train"].to_dict("records"):
        distance = sum((float(row[name]) - at) ** 2 for name, at in zip(REFERENCE_MM, point_mm, strict=True)) ** 0.5
        key = (row["brain"], row["sample"])
        expected[key] = min(expected.get(key, np.inf), distance)

    found = nearest_training_sections(NAME, store, point_mm, most=100)

    assert list(zip(found["brain"], found["sample"], strict=True)) == sorted(expected, key=lambda key: expected[key])
    assert found["distance_mm"].to_numpy() == pytest.approx(sorted(expected.values()), abs=1e-9)
    assert "B20" not in set(found["brain"]), "the unseen brain is none of them"
    assert found["n_patches"].sum() == (patches["role"] == "train").sum()


def test_a_map_is_found_by_its_path_a_copy_and_its_encoder(store, tmp_path):
    made = find_map(NAME, store)
    shutil.copyfile(made.path, tmp_path / "renamed.nii.gz")

    assert made.brain == "B20"
    for given in (str(made.path), str(tmp_path / "renamed.nii.gz"), f"{NAME}@{made.version}"):
        assert find_map(given, store) == made
    probabilities = made.path.with_name(made.path.name.replace("dseg", "probseg"))
    for given in (str(probabilities), str(tmp_path / "none.nii.gz")):
        with pytest.raises(ConfigurationError, match=r"neither a map|no such file"):
            find_map(given, store)
    with pytest.raises(StoreError, match="near it"):
        find_map("tiny_cytonett", store)


def test_a_point_outside_the_cortex_says_so_and_one_outside_the_volume_is_refused(store):
    made = find_map(NAME, store)

    origin = origin_of_voxel(made, np.zeros(3), in_voxels=True, store=store)

    assert (origin.label, origin.area, origin.probability) == (0, "", 0.0)
    with pytest.raises(ConfigurationError, match="outside"):
        origin_of_voxel(made, np.array([0.0, 500.0, 0.0]), in_voxels=False, store=store)


def test_the_command_takes_negative_coordinates_and_refuses_an_unknown_version(ran, store, labelled, monkeypatch):
    for name, value in ran.settings.environment().items():
        monkeypatch.setenv(name, value)
    _, point_mm, label = next(each for each in labelled if each[1][0] < 0)
    words = ["lineage", "voxel", NAME, *(f"{value:g}" for value in point_mm), "--most", "2"]

    answered = CliRunner().invoke(app, words)

    assert answered.exit_code == 0, answered.output
    assert f"label {label}, " in answered.output
    assert "training sections nearest to" in answered.output
    refused = CliRunner().invoke(app, ["lineage", "voxel", "tiny_scratch@1234", "0", "0", "0"])
    assert refused.exit_code != 0
