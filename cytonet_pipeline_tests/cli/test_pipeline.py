"""What `cytonet run` refuses before anything is computed, and what `cytonet ui` hands to its servers."""

import os
import socket
from pathlib import Path

import pytest

from cytonet_pipeline.cli import pipeline
from cytonet_pipeline.cli.inputs import map_
from cytonet_pipeline.cli.pipeline import run, ui
from cytonet_pipeline.cli.training import export
from cytonet_pipeline.errors import ConfigurationError, CytonetError
from cytonet_pipeline.settings.experiments import EvaluationBlock
from cytonet_pipeline_tests.conftest import settings_for
from cytonet_pipeline_tests.dataset.tiny import TinyDataset


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


@pytest.fixture
def tiny_settings(tmp_path, monkeypatch):
    TinyDataset(tmp_path / "brains").write()
    (tmp_path / "store" / "encoders" / "tiny_cytonet" / "0123456789abcdef").mkdir(parents=True)
    (tmp_path / "points.tsv").write_text("x_mm\ty_mm\tz_mm\n1\t2\t3\n")
    monkeypatch.chdir(tmp_path)
    settings = settings_for(tmp_path, tmp_path / "store")
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    return settings


@pytest.mark.parametrize(
    ("call", "near"),
    [
        (lambda: run(brains="sub-B1", encoders=None), "B01"),
        (lambda: run(brains="b01", encoders=None), "B01"),
        (lambda: run(brains=None, encoders="tiny_cytonett"), "tiny_cytonet"),
        (lambda: map_("sub-B1", Path("points.tsv"), to="MNIColin27", output=None), "B01"),
        (lambda: export("tiny_cytonett", Path("out")), "tiny_cytonet"),
    ],
)
def test_a_slip_of_the_pen_is_refused_with_the_names_near_it(tiny_settings, call, near):
    with pytest.raises(CytonetError) as refused:
        call()

    assert near in str(refused.value)
    assert not (tiny_settings.store / "store.json").exists()


def test_brains_to_map_may_be_written_with_sub():
    assert EvaluationBlock(map_brains=("sub-B20", "B03")).map_brains == ("B20", "B03")
