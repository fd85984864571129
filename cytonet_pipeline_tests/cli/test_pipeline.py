"""What `cytonet run` refuses before anything is computed, and what `cytonet ui` hands to its servers."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from cytonet_pipeline.cli import ui as ui_command
from cytonet_pipeline.cli.inputs import map_
from cytonet_pipeline.cli.pipeline import run
from cytonet_pipeline.cli.training import export
from cytonet_pipeline.errors import ConfigurationError, CytonetError
from cytonet_pipeline.settings.experiments import EvaluationBlock
from cytonet_pipeline.store.processes import is_alive
from cytonet_pipeline_tests.cluster.processes import until
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
    monkeypatch.setattr(ui_command, "_run_until_stopped", lambda _: started.append(dict(os.environ)))

    monkeypatch.setattr(ui_command, "_require_free_port", lambda *_: None)
    with pytest.raises(typer.Exit):
        ui_command.ui(port=3999, host="127.0.0.1")

    assert started[0]["PYTHONSAFEPATH"] == "1"


def test_a_port_in_use_is_named_with_the_next_free_one():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        port = other.getsockname()[1]

        with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}: in use") as refused:
            ui_command._require_free_port("127.0.0.1", port)

    assert "cytonet ui --port " in str(refused.value)
    ui_command._require_free_port("127.0.0.1", port)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70000), ("192.0.2.1", 3000), ("no-such-host.invalid", 3000)])
def test_an_address_that_is_none_of_this_machine_is_refused(host, port):
    with pytest.raises(ConfigurationError, match="cannot be listened on"):
        ui_command._require_free_port(host, port)


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


def test_a_signal_ends_all_that_the_command_has_started(tmp_path):
    """`dagster dev` outlives SIGTERM with its servers; a stand-in ends after SIGINT and leaves a child behind."""
    script = tmp_path / "servers.py"
    script.write_text(
        "import signal, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal, time; signal.signal(2, signal.SIG_IGN);'"
        " 'time.sleep(60)'])\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(3))\n"
        f"open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    code = (
        "from cytonet_pipeline.cli import ui; import sys; ui._GRACE_S = 0.2;"
        f"sys.exit(ui._run_until_stopped([sys.executable, {str(script)!r}]))"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        until((tmp_path / "child").exists, 30)
        process.terminate()
        assert process.wait(20) == 3

    assert not is_alive(int((tmp_path / "child").read_text()), {"host": socket.gethostname()})
