"""Tests that share what takes minutes to build run on one worker of pytest-xdist."""

import pytest


@pytest.mark.xdist_group("workers")
def test_groups_are_known_to_the_scheduler(request):
    """It reads them from the end of a test's id. With pytest 9.2 nothing stood there, and every worker built all."""
    if not request.config.getoption("loadgroup", default=False):
        pytest.skip("tests are not distributed by group: see `make test`")

    assert request.node.nodeid.endswith("@workers")
