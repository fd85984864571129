import pytest

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.settings import DatasetBlock
from cytonet_pipeline_tests.dataset.tiny import TinyDataset


@pytest.fixture
def tiny(tmp_path) -> TinyDataset:
    return TinyDataset(tmp_path / "brains").write()


@pytest.fixture
def read(tiny):
    """Read the brain of the tiny data set under changed settings."""

    def brain(**block):
        return Dataset(tiny.root, DatasetBlock(density_per_mm3=1, held_out="B01", **block)).brain("B01")

    return brain
