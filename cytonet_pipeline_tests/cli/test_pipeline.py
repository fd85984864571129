"""What `cytonet run` refuses before anything is computed, and what `cytonet ui` hands to its servers."""

import os
import socket

import pytest

from cytonet_pipeline.cli import pipeline
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

    monkeypatch.setattr(pipeline, "_require_free_port", lambda *_: None)
    ui(port=3999, host="127.0.0.1")

    assert started[0]["PYTHONSAFEPATH"] == "1"


def test_a_port_in_use_is_named_with_the_next_free_one():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        port = other.getsockname()[1]

        with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}: in use") as refused:
            pipeline._require_free_port("127.0.0.1", port)

    assert "cytonet ui --port " in str(refused.value)
    pipeline._require_free_port("127.0.0.1", port)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70000), ("192.0.2.1", 3000), ("no-such-host.invalid", 3000)])
def test_an_address_that_is_none_of_this_machine_is_refused(host, port):
    with pytest.raises(ConfigurationError, match="cannot be listened on"):
        pipeline._require_free_port(host, port)
