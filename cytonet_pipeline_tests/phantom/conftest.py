"""One small phantom for all tests of this room: coarse pixels and few sections, painted once."""

from pathlib import Path

import pytest

from cytonet_pipeline.phantom import write_phantom
from cytonet_pipeline.phantom.reference import Reference

SMALL = {"brains": ("B01", "B20"), "sections": 3, "seed": 3, "pixel_um": 128.0}


@pytest.fixture(scope="session")
def phantom(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "brains-of-three-sections"
    write_phantom(folder, **SMALL)
    return folder


@pytest.fixture(scope="session")
def brains(phantom) -> Path:
    return phantom / "brains"


@pytest.fixture(scope="session")
def template(phantom) -> Path:
    return phantom / "tpl-MNIColin27"


@pytest.fixture(scope="session")
def reference(template) -> Reference:
    return Reference.load(template)
