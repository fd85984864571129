"""Long steps beside the training, sent to a real Slurm where the profile says so."""

import dagster as dg
import pytest

from cytonet_pipeline.store import Store, Verdict
from cytonet_pipeline_tests.defs.slurm_runs import ONE_RANK, RunShown, SlurmRuns, run_job

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm"), pytest.mark.timeout(300)]


@pytest.fixture
def runs(slurm, small_brains, indexed, tmp_path, monkeypatch):
    made = SlurmRuns(slurm, small_brains, indexed, tmp_path)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    yield made
    made.close()


def index_again(runs) -> RunShown:
    result = run_job(
        runs.settings(),
        "ingest_brain",
        runs.instance,
        "B01",
        asset_selection=[dg.AssetKey("patch_index")],
        run_config={"ops": {"patch_index": {"config": {"recompute": True}}}},
    )
    return RunShown(runs.instance, result.run_id)


def test_a_step_that_the_profile_sends_runs_as_a_job_and_shows_as_if_it_had_run_here(runs):
    folder = Store(runs.folder / "store").patch_index("B01")
    before, stamped = Verdict.read(folder), folder.stat().st_ino
    runs.write_profile(**ONE_RANK, send={"patch_index": {"gpus_per_node": 0, "walltime": "5:00"}})

    shown = index_again(runs)

    assert shown.status == "SUCCESS", shown.failure
    assert "patch_index B01: Slurm job " in shown.log
    assert shown.tags["cytonet/slurm_job"] in runs.jobs()
    assert folder.stat().st_ino != stamped
    assert Verdict.read(folder) == before
    script = (runs.folder / "store" / "jobs" / "patch_index" / "B01" / "job" / "attempt-1" / "script.sh").read_text()
    assert "#SBATCH --time=5:00\n" in script
    assert "--gres" not in script


def test_a_step_that_the_profile_does_not_send_runs_here(runs):
    runs.write_profile(**ONE_RANK)

    assert index_again(runs).status == "SUCCESS"
    assert not (runs.folder / "store" / "jobs" / "patch_index").exists()


def test_a_step_that_fails_on_the_cluster_shows_how(runs):
    runs.write_profile(**ONE_RANK, python="/nowhere/python", send={"patch_index": {"gpus_per_node": 0}})

    shown = index_again(runs)

    assert shown.status == "FAILURE"
    assert "/nowhere/python does not run" in shown.failure
