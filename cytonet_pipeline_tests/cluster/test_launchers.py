"""Choosing a back-end, and what the back-ends answer."""

import json

import pytest

from cytonet_pipeline.cluster.batch.launcher import BatchLauncher
from cytonet_pipeline.cluster.launchers import BACKENDS, backend_of, job_facts, launcher_of, step_launcher
from cytonet_pipeline.cluster.local import LocalLauncher
from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.settings import Settings


@pytest.fixture
def settings(tmp_path):
    """Make settings of a cluster, with one encoder `one` of two ranks."""
    experiments = tmp_path / "experiments.yaml"
    experiments.write_text(
        "dataset: {density_per_mm3: 1.0, held_out: B01}\n"
        "encoders: {one: {method: cytonet, working_pixel_um: 64.0, processes: 2}}\n"
    )

    def settings(cluster: str) -> Settings:
        places = {"data": tmp_path / "data", "reference": tmp_path / "reference", "store": tmp_path / "store"}
        return Settings(**places, experiments_file=experiments, cluster=cluster)

    return settings


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """Write a profile that sends one step."""
    path = tmp_path / "profile.yaml"
    path.write_text("nodes: 2\ngpus_per_node: 4\ncpus_per_task: 128\npython: /p/bin/python\nsend: {patch_index: {}}\n")
    monkeypatch.setenv("CYTONET_CLUSTER_PROFILE", str(path))


def test_an_unknown_cluster_is_an_error_that_lists_the_known_ones(settings):
    for ask in (
        lambda: launcher_of(settings("slrum"), "one", print),
        lambda: step_launcher(settings("slrum"), "patch_index", ["module"], print),
        lambda: backend_of(settings("slrum")),
    ):
        with pytest.raises(ConfigurationError, match="CYTONET_CLUSTER=slrum") as error:
            ask()
        assert all(name in error.value.to_fix for name in BACKENDS)


def test_this_machine_takes_the_ranks_of_the_experiment_and_sends_no_step(settings):
    launcher = launcher_of(settings("local"), "one", print)

    assert isinstance(launcher, LocalLauncher)
    assert launcher.processes == 2
    assert step_launcher(settings("local"), "patch_index", ["module"], print) is None
    assert backend_of(settings("local")).training_gpus() is None


def test_a_cluster_takes_one_rank_per_gpu_of_the_profile(settings, profile, tmp_path):
    launcher = launcher_of(settings("slurm"), "one", print)

    assert isinstance(launcher, BatchLauncher)
    assert launcher.ranks == 4
    # By this key its jobs are found again.
    assert launcher.system.lower() == "slurm"
    arguments = launcher.arguments(tmp_path)
    assert arguments[:2] == ["cytonet_pipeline.learning", str(tmp_path)]
    assert arguments[-2:] == ["--threads", "32"]
    # Ranks that torchrun starts would look for modules in the current folder first.
    assert launcher.environment["PYTHONSAFEPATH"] == "1"
    assert backend_of(settings("slurm")).training_gpus() == 8


def test_a_step_that_is_sent_runs_what_its_caller_says_and_sends_nothing_further(settings, profile, tmp_path):
    launcher = step_launcher(settings("slurm"), "patch_index", ["some.module", "patch_index", "B01"], print)

    assert launcher.arguments(tmp_path) == ["some.module", "patch_index", "B01"]
    assert launcher.environment["CYTONET_CLUSTER"] == "local"
    assert launcher.environment["PYTHONSAFEPATH"] == "1"
    assert step_launcher(settings("slurm"), "section_scans", ["some.module"], print) is None


def test_facts_of_a_job_are_read_from_the_record_of_an_earlier_version(tmp_path):
    """A store outlives the program that wrote it."""
    place = tmp_path / "job" / "attempt-3"
    place.mkdir(parents=True)
    run = {"restart": 0, "nodes": "n1", "node_count": 1, "started": 1030, "elapsed_s": 60, "exit_code": 0}
    record = {"cluster": "slurm", "state": "ended", "name": "cytonet-one-01234567-89abcdef", "started": 999.0}
    record |= {"host": "login1", "pid": 4711, "job_id": "12", "submitted": 1000.0, "phase": "COMPLETED", "reason": ""}
    record |= {"nodes": "n1", "gpus": 4, "restarts": 0, "starts": [run | {"requeued": False}], "by": "", "signal": 0}
    record |= {"exit_code": 0, "ended": 1100.0, "elapsed_s": 60, "node_hours": 0.0167}
    (place / "job.json").write_text(json.dumps(record))

    facts = job_facts(tmp_path)

    assert (facts["Slurm job"], facts["GPUs"], facts["waited s"], facts["attempts"]) == ("12", 4, 30.0, 3)
    assert job_facts(tmp_path / "none") == {}
