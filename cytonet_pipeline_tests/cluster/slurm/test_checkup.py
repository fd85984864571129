"""What `cytonet doctor --cluster` reports about a sound cluster, and about each possible fault."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cytonet_pipeline.cluster.slurm.checkup import check_up
from cytonet_pipeline.cluster.slurm.node_report import report_on_node
from cytonet_pipeline.cluster.slurm.profile import ClusterProfile
from cytonet_pipeline.settings import Settings
from cytonet_pipeline_tests.cluster.batch.sshd import sshd  # noqa: F401
from cytonet_pipeline_tests.cluster.slurm.slurm_cluster import slurm  # noqa: F401

real = [pytest.mark.slurm, pytest.mark.xdist_group("slurm")]


@pytest.fixture
def settings(tmp_path) -> Settings:
    for name in ("data", "reference"):
        (tmp_path / name).mkdir()
    return Settings(
        data=tmp_path / "data",
        reference=tmp_path / "reference",
        store=tmp_path / "store",
        experiments_file=tmp_path / "experiments.yaml",
    )


@pytest.fixture
def look(slurm, settings, monkeypatch):  # noqa: F811
    """Examine the throw-away cluster with a profile; returns the faults, and the text of all checks."""
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)

    def look(in_settings: Settings = settings, **keys) -> tuple[list[str], str]:
        checks = list(check_up(in_settings, ClusterProfile(**{"walltime": "10:00", "setup": QUICK, **keys})))
        return [check.text for check in checks if check.level == "bad"], "\n".join(check.text for check in checks)

    return look


# Loading torch takes seconds on a busy machine; most of these tests are about something else.
QUICK = (
    "mkdir -p quick/torch quick/numpy quick/pyarrow",
    "for name in torch numpy pyarrow; do printf '__version__ = \"0\"\\n' > quick/$name/__init__.py; done",
    'printf \'cuda = type("", (), {"device_count": staticmethod(lambda: 0)})\\n\' >> quick/torch/__init__.py',
    "export PYTHONPATH=$PWD/quick",
)


class Marked:
    pytestmark = real


class TestOnTheThrowAwaySlurm(Marked):
    def test_a_sound_cluster_is_described(self, look, settings):
        bad, text = look(setup=(), directives={"comment": "it's a test", "nodelist": "n2"})

        assert bad == []
        for words in (
            "on this machine, answers in",
            "partition main: 2 nodes, 4 cores, gpu:fake:2",
            "encoder: 1 node for 10:00 with comment, nodelist: accepted",
            "began on n2 after",
            f"python {sys.version.split()[0]}, torch 2",
            "cytonet_pipeline 0",
            f"sees {settings.data}, {settings.reference}, {settings.store}",
            "GB free in the store",
            "a message and its answer take",
        ):
            assert words in text
        # Nothing stays behind, not even the store, which did not exist before.
        assert not settings.store.exists()

    def test_an_unknown_directive_is_reported_in_slurms_words_before_any_job(self, look):
        bad, text = look(directives={"frobnicate": 1})

        assert len(bad) == 1
        assert "unrecognized option '--frobnicate=1'" in bad[0]
        assert "directives" in bad[0]
        assert "began on" not in text

    def test_a_partition_that_is_not_there_is_reported(self, look):
        bad, _ = look(partition="nowhere")
        assert ["invalid partition specified: nowhere" in text for text in bad] == [True]

    def test_steps_that_are_sent_are_rehearsed_too(self, look):
        bad, _ = look(send={"patch_embeddings": {"gpus_per_node": 99}})
        assert [text.startswith("patch_embeddings: Slurm refuses") for text in bad] == [True]

    def test_a_store_that_the_nodes_cannot_see_is_reported(self, look, slurm, settings):  # noqa: F811
        settings.store.mkdir()
        slurm.stop_node("n2")
        slurm.start_node("n2", hidden=settings.store)
        try:
            slurm.wait_until_idle()
            bad, _ = look(directives={"nodelist": "n2"})
        finally:
            slurm.stop_node("n2")
            slurm.start_node("n2")
            slurm.wait_until_idle()

        assert bad == [f"n2: does not see {settings.store}; put CYTONET_STORE on a file system that the nodes share"]

    def test_data_that_the_nodes_cannot_see_are_reported(self, look, settings):
        settings.data.rmdir()
        bad, _ = look()
        assert ["cannot read" in text and str(settings.data) in text for text in bad] == [True]

    def test_an_environment_without_the_package_is_reported(self, look):
        bad, _ = look(setup=(*QUICK, "export PYTHONPATH="), python="/usr/bin/python3", launcher=("true",))

        assert len(bad) == 1
        assert "n1: /usr/bin/python3 cannot import torch" in bad[0]
        assert "cytonet_pipeline" in bad[0]
        assert "correct `python` or `setup`" in bad[0]

    def test_a_python_that_is_not_there_is_reported(self, look):
        bad, _ = look(python="/nowhere/bin/python")
        assert ["/nowhere/bin/python does not run there" in text for text in bad] == [True]

    def test_a_launcher_that_is_not_there_is_reported(self, look):
        bad, _ = look(launcher=("torchrun_jsc",))
        assert bad == ["n1: no command torchrun_jsc; correct `launcher` or `setup` in the profile"]

    def test_gpus_that_torch_does_not_see_are_reported(self, look):
        bad, _ = look(gpus_per_node=2)
        assert ["torch sees 0 of the 2 GPUs" in text for text in bad] == [True]

    def test_a_full_quota_is_reported(self, look, settings):
        """Small files still fit; checkpoints do not."""
        settings.store.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(settings.store)])
        if mounted.returncode:
            pytest.skip("no file system of its own can be mounted here")
        try:
            bad, _ = look()
        finally:
            # The job may still be running in there.
            subprocess.run(["umount", "--lazy", str(settings.store)], check=True)

        assert ["cannot write 16 MB to the store (No space left on device)" in text for text in bad] == [True]

    def test_a_limit_on_the_size_of_files_is_reported(self, look):
        bad, _ = look(setup=(*QUICK, "ulimit -f 8000"))
        assert ["cannot write 16 MB to the store (File too large)" in text for text in bad] == [True]

    def test_a_job_that_does_not_start_in_time_is_cancelled(self, look, slurm, settings, monkeypatch):  # noqa: F811
        waits = "#!/bin/sh\n#SBATCH --nodes=2 --exclusive --output=/dev/null\nsleep 60\n"
        blocking = slurm.slurm("sbatch", "--parsable", stdin=waits).stdout.strip()
        try:
            checks = list(check_up(settings, ClusterProfile(walltime="10:00"), wait_s=2))
        finally:
            slurm.slurm("scancel", blocking)

        assert checks[-1].level == "note"
        assert "PENDING" in checks[-1].text
        assert "given up" in checks[-1].text
        assert "cytonet-doctor" not in slurm.slurm("squeue", "-h", "-o", "%j").stdout

    def test_it_works_through_ssh(self, look, slurm, sshd, monkeypatch):  # noqa: F811
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(sshd.folder))
        variables = tuple(f"{name}={value}" for name, value in slurm.environment.items())
        monkeypatch.delenv("SLURM_CONF")
        away = {"transport": "ssh", "host": "cluster", "ssh_config": sshd.config, "slurm_prefix": ("env", *variables)}

        bad, text = look(**away)

        assert bad == []
        assert "through ssh to cluster" in text
        assert sshd.logins() == 1
        _close(sshd)

    def test_a_login_that_has_expired_is_reported(self, look, sshd, monkeypatch):  # noqa: F811
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(sshd.folder))
        sshd.refuse()

        bad, _ = look(transport="ssh", host="cluster", ssh_config=sshd.config)

        assert len(bad) == 1
        assert "Permission denied" in bad[0]
        assert "ssh-add" in bad[0]


def _close(sshd) -> None:  # noqa: F811
    from cytonet_pipeline.cluster.batch.transport import SshTransport

    SshTransport("cluster", config=sshd.config).close()


SEEN = {
    "node": "jrc0436",
    "python": "3.11.4",
    "token": "t",
    "unwritable": None,
    "free_gb": 900.0,
    "paths": {"/p/store": None},
    "packages": {"torch": {"version": "2.13.0"}, "cytonet_pipeline": {"version": "0.1.0"}},
    "gpus": ["NVIDIA A100-SXM4-40GB"] * 4,
    "cores": 128,
    "launcher": "/p/venv/bin/torchrun_jsc",
    "master": ["jrc0436i", "10.0.0.1"],
    "packs": None,
}
JURECA = ClusterProfile(gpus_per_node=4, master_suffix="i", launcher=("torchrun_jsc",))


def levels(**changes) -> dict[str, str]:
    return {text: level for level, text in report_on_node({**SEEN, **changes}, JURECA, token="t", version="0.1.0")}


def test_a_sound_node_has_nothing_to_fix():
    assert set(levels().values()) == {"ok"}
    assert "jrc0436: 4 GPUs (NVIDIA A100-SXM4-40GB)" in levels()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"token": "other"}, "the store there is another folder"),
        ({"gpus": ["NVIDIA A100"] * 3}, "sees 3 of the 4 GPUs"),
        ({"free_gb": 1.0}, "1 GB free"),
        ({"master": ["jrc0436i", None]}, "jrc0436i does not resolve; correct `master_suffix`"),
        ({"packages": {"cytonet_pipeline": {"version": "0.0.9"}}}, "cytonet_pipeline 0.0.9, here 0.1.0"),
        ({"packs": {"path": "/local", "unwritable": "Permission denied", "free_gb": 0.0}}, "cannot write to `packs`"),
    ],
)
def test_what_is_wrong_on_a_node_is_reported_in_one_sentence(changes, words):
    assert [words in text for text, level in levels(**changes).items() if level == "bad"] == [True]


def test_without_slurm_here_the_check_up_says_what_to_set(settings, monkeypatch):
    monkeypatch.setenv("PATH", str(Path(os.devnull).parent))

    [check] = check_up(settings, ClusterProfile())

    assert check.level == "bad"
    assert "transport: ssh" in check.text
