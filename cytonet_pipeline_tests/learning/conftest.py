import pytest

from cytonet_pipeline_tests.learning.tiny_training import TinyTraining, write_tiny_training


@pytest.fixture(scope="session")
def scans(tmp_path_factory) -> TinyTraining:
    """Scans shared by all tests, which only read them."""
    return write_tiny_training(tmp_path_factory.mktemp("tiny_training"))


@pytest.fixture
def tiny(scans, tmp_path) -> TinyTraining:
    """The shared scans with a store of the test's own."""
    return TinyTraining(scans.data, tmp_path / "store", scans.sections, scans.patches)
