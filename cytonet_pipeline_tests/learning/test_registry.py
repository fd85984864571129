"""Backbones, distances and transfer functions by name: in experiments files, and where they are made."""

import os
import subprocess
import sys

import pytest
import torch
import yaml

from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.learning import DistanceWeightedContrastiveLoss
from cytonet_pipeline.learning.backbones.backbones import BACKBONES
from cytonet_pipeline.learning.backbones.encoders import new_encoder
from cytonet_pipeline.learning.losses.distances import DISTANCES
from cytonet_pipeline.learning.losses.transfer import TRANSFER_FUNCTIONS
from cytonet_pipeline.settings import EncoderBlock, read_experiments
from cytonet_pipeline_tests.conftest import PROJECT

MISSPELT = [
    ({"backbone": "resnet5O"}, BACKBONES),
    ({"loss": {"transfer": "gausian"}}, TRANSFER_FUNCTIONS),
    ({"loss": {"distance": "euclidian"}}, DISTANCES),
]


def experiments_with(tmp_path, change):
    content = yaml.safe_load((PROJECT / "experiments" / "demo.yaml").read_text())
    content["encoders"]["demo_cytonet"].update(change)
    path = tmp_path / "experiments.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(("change", "registry"), MISSPELT)
def test_a_misspelt_name_is_refused_when_the_file_is_read_and_the_known_ones_are_listed(tmp_path, change, registry):
    path = experiments_with(tmp_path, change)

    with pytest.raises(ConfigurationError, match=r"encoders\.demo_cytonet\..*no such") as refused:
        read_experiments(path)

    assert ", ".join(registry) in str(refused.value)


@pytest.mark.parametrize(
    "module", ["cytonet_pipeline.cli", "cytonet_pipeline.stages", "cytonet_pipeline.defs.partitions"]
)
def test_every_program_that_reads_experiments_knows_the_names(tmp_path, module):
    """The registries are handed to the settings by an import: a program without it would accept any name."""
    path = experiments_with(tmp_path, {"backbone": "resnet5O"})
    script = f"import {module}; from cytonet_pipeline.settings import Settings; Settings.from_environment().experiments"

    tried = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "CYTONET_EXPERIMENTS": str(path)},
        capture_output=True,
        text=True,
    )

    assert tried.returncode == 1
    assert "small, resnet50, resnet101" in tried.stderr


def test_every_registered_name_may_stand_in_an_experiments_entry():
    for backbone in BACKBONES:
        EncoderBlock(method="cytonet", working_pixel_um=64, backbone=backbone)
    for transfer in TRANSFER_FUNCTIONS:
        for distance in DISTANCES:
            EncoderBlock(method="cytonet", working_pixel_um=64, loss={"transfer": transfer, "distance": distance})


@pytest.mark.parametrize(
    ("make", "known"),
    [
        (lambda: DistanceWeightedContrastiveLoss(transfer="step"), TRANSFER_FUNCTIONS),
        (lambda: DistanceWeightedContrastiveLoss(distance="geodesic"), DISTANCES),
        (lambda: new_encoder("vgg", 0.5, 0.2, 0), BACKBONES),
    ],
)
def test_what_is_unknown_is_never_made(make, known):
    """An unknown transfer function would otherwise be taken for another one."""
    with pytest.raises(ConfigurationError) as refused:
        make()

    assert ", ".join(known) in str(refused.value)


@pytest.mark.parametrize("name", TRANSFER_FUNCTIONS)
def test_a_transfer_function_is_one_at_no_distance_and_never_increases(name):
    relative = torch.linspace(0, 40, 4001, dtype=torch.float64)

    weights = TRANSFER_FUNCTIONS[name](relative.clone())

    assert weights.dtype == relative.dtype
    assert weights[0] == 1
    assert (weights >= 0).all()
    assert (weights.diff() <= 0).all()


class TableOfDistances:
    """Distances between numbered places, as along a surface: coordinates are numbers, not positions."""

    def __init__(self, table_mm):
        self.table_mm = table_mm

    def coordinates_of(self, patches):
        return patches[["place"]].to_numpy("int64")

    def between(self, rows, columns):
        return self.table_mm[rows[:, 0]][:, columns[:, 0]]


def test_a_distance_may_be_an_object_with_coordinates_of_its_own():
    rng = torch.Generator().manual_seed(0)
    z = torch.nn.functional.normalize(torch.randn(20, 8, generator=rng), dim=1)
    positions = torch.rand(20, 3, generator=rng) * 30
    looked_up = TableOfDistances(torch.cdist(positions.double(), positions.double()).float())

    by_table = DistanceWeightedContrastiveLoss(length_mm=8.0, distance=looked_up)(z, torch.arange(20)[:, None])

    assert float(by_table) == pytest.approx(
        float(DistanceWeightedContrastiveLoss(length_mm=8.0)(z, positions)), rel=1e-5
    )
