"""One small phantom for all tests of this room: the brains that other rooms look at, painted once."""

from pathlib import Path

import pytest

from cytonet_pipeline.phantom.reference import Reference
from cytonet_pipeline_tests.conftest import SMALL_PHANTOM as SMALL

__all__ = ["SMALL"]


@pytest.fixture(scope="session")
def phantom(small_brains) -> Path:
    return small_brains


@pytest.fixture(scope="session")
def brains(phantom) -> Path:
    return phantom / "brains"


@pytest.fixture(scope="session")
def template(phantom) -> Path:
    return phantom / "tpl-MNIColin27"


@pytest.fixture(scope="session")
def reference(template) -> Reference:
    return Reference.load(template)
