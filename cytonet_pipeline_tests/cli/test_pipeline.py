"""What `cytonet run` refuses before anything is computed, and what `cytonet ui` hands to its servers."""

import os

import pytest

from cytonet_pipeline.cli.pipeline import run, ui
from cytonet_pipeline.errors import ConfigurationError


def test_an_unknown_cluster_is_refused_once_and_not_by_every_encoder(monkeypatch):
    monkeypatch.setenv("CYTONET_CLUSTER", "foo")

    with pytest.raises(ConfigurationError, match="CYTONET_CLUSTER=foo: no such launcher"):
        run(brains=None, encoders=None)


def test_the_servers_and_all_that_they_start_import_nothing_from_the_current_folder(monkeypatch, tmp_path):
    """Steps run in children of the code server, which inherit its environment and not its options."""
    started = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {**os.environ, "DAGSTER_HOME": str(tmp_path)})
    monkeypatch.setattr(os, "execv", lambda *_: started.append(dict(os.environ)))

    ui(port=3999, host="127.0.0.1")

    assert started[0]["PYTHONSAFEPATH"] == "1"
