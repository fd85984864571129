"""What Dagster runs of `train_encoder` show when their training is a job of a real Slurm."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from cytonet_pipeline.defs.training import launch
from cytonet_pipeline.store import Store, read_table
from cytonet_pipeline_tests.cluster.processes import until
from cytonet_pipeline_tests.conftest import PROJECT
from cytonet_pipeline_tests.defs.slurm_runs import ONE_RANK, STEPS, WAIT_S, SlurmRuns

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm"), pytest.mark.timeout(400)]


@pytest.fixture
def runs(slurm, small_brains, indexed, tmp_path):
    made = SlurmRuns(slurm, small_brains, indexed, tmp_path)
    yield made
    made.close()


def test_a_training_on_two_nodes_gives_the_weights_and_the_lineage_of_the_local_launcher(runs, tmp_path):
    """The cluster is another place to run, not another training."""
    runs.write_experiments(processes=4)
    runs.write_profile(launcher=None)

    shown = runs.run()

    assert shown.status == "SUCCESS", shown.failure
    (job,) = runs.attempts()
    assert shown.tags["cytonet/slurm_job"] == job["job_id"]
    assert f"job {job['job_id']} RUNNING on n[1-2]" in shown.log
    facts = shown.facts
    assert (facts["nodes"], facts["GPUs"], facts["ranks"]) == ("n[1-2]", "4", "4")
    assert float(facts["node-hours"]) == pytest.approx(float(facts["elapsed s"]) * 2 / 3600, abs=1e-3)
    local = runs.settings("local", runs.copy_of_store())
    assert runs.run(settings=local).status == "SUCCESS"
    there, here = Store(runs.folder / "store"), Store(local.store)
    version = there.current_version("tiny_cytonet")
    assert version == here.current_version("tiny_cytonet")
    weights = [load_file(store.current_encoder("tiny_cytonet") / "encoder.safetensors") for store in (there, here)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        np.testing.assert_allclose(value, weights[1][name], rtol=0, atol=1e-6, err_msg=name)
    sets = [store.training_set(version) / "sections.parquet" for store in (there, here)]
    pd.testing.assert_frame_equal(*(read_table(path, "training_sections") for path in sets))


def test_an_error_of_the_training_shows_with_the_end_of_its_log(runs):
    runs.alone()
    (runs.control / "broken").touch()

    shown = runs.run()

    assert shown.status == "FAILURE"
    assert "failed (FAILED) with exit code 1" in shown.failure
    assert "the third batch is cheese" in shown.failure
    assert str(runs.encoder_folder() / "job" / "attempt-1" / "log.txt") in shown.failure


def test_a_job_that_ends_well_without_ever_reporting_is_a_failure(runs, monkeypatch):
    """Slurm says COMPLETED; that is not enough."""
    monkeypatch.setattr(launch, "_SETTLE_S", 2.0)
    runs.alone()
    (runs.control / "silent").touch()

    shown = runs.run()

    assert shown.status == "FAILURE"
    assert "ended without ever reporting" in shown.failure
    assert runs.attempts()[0]["phase"] == "COMPLETED"


def test_before_the_walltime_ends_the_training_checkpoints_and_is_requeued_until_it_is_done(runs):
    runs.brake(4, "brake-first")
    # Slurm looks at time limits every 30 s, and warns up to a minute early.
    runs.write_profile(walltime="2:00", signal_before_s=60)

    shown = runs.run()

    assert shown.status == "SUCCESS", shown.failure
    (job,) = runs.attempts()
    # On a busy machine the second start may be warned, too.
    first, *_, last = job["starts"]
    assert first["requeued"]
    assert 0 < first["step"] < STEPS
    assert last["restart"] == job["restarts"] >= 1
    assert shown.facts["restarts"] == str(job["restarts"])
    assert (last["exit_code"], last["requeued"]) == (0, False)
    assert "restart 1" in shown.log
    log = (runs.encoder_folder() / "job" / "attempt-1" / "log.txt").read_text()
    assert f"continuing after step {first['step']}" in log


def test_a_job_that_somebody_cancels_is_named_as_such(runs):
    runs.alone()
    runs.brake()
    run = runs.spawn()
    runs.cluster.slurm("scancel", runs.wait_for_job())

    shown = run.shown()

    assert shown.status == "FAILURE"
    assert "was cancelled (CANCELLED) by an unknown user" in shown.failure
    assert "run again if it should continue" in shown.failure


def test_a_run_that_was_killed_is_started_again_and_joins_its_job(runs):
    """Trap 18 in docs/dagster.md: a new run id, no parent; what it must find lies in the store."""
    runs.alone()
    runs.brake()
    killed = runs.spawn()
    job_id = runs.wait_for_job()
    runs.wait_for_step(1)
    killed.kill()
    again = runs.spawn()
    until(lambda: "joining attempt" in again.log(), WAIT_S)
    runs.release()

    shown = again.shown()

    assert shown.status == "SUCCESS", shown.failure
    assert f"joining attempt 1: Slurm job {job_id}" in shown.log
    assert "training in process" in shown.log
    assert shown.tags["cytonet/slurm_job"] == job_id
    assert [job["job_id"] for job in runs.attempts()] == [job_id]


def test_a_job_that_finished_while_nobody_looked_is_collected_and_not_run_again(runs):
    runs.alone()
    runs.brake()
    killed = runs.spawn()
    job_id = runs.wait_for_job()
    killed.kill()
    runs.release()
    runs.wait_for_job(phase="COMPLETED")

    shown = runs.run()

    assert shown.status == "SUCCESS", shown.failure
    assert "is finished; nothing to train" in shown.log
    assert (shown.facts["Slurm job"], shown.facts["nodes"]) == (job_id, "n1")
    (job,) = runs.attempts()
    assert (job["state"], job["phase"], job["exit_code"]) == ("ended", "COMPLETED", 0)


def test_a_run_killed_between_sbatch_and_the_id_finds_its_job_by_name(runs):
    runs.alone()
    runs.brake()
    killer = runs.folder / "killer"
    killer.write_text('#!/bin/sh\nif [ "$1" = sbatch ]; then "$@" && kill -9 $PPID; else "$@"; fi\n')
    killer.chmod(0o755)
    runs.alone(slurm_prefix=[str(killer)])
    killed = runs.spawn()
    killed.process.wait(WAIT_S)
    (record,) = runs.attempts()
    assert record["state"] == "intended"
    assert "job_id" not in record
    runs.release()
    runs.alone()

    shown = runs.run()

    assert shown.status == "SUCCESS", shown.failure
    (record,) = runs.attempts()
    named = runs.cluster.slurm("squeue", "-h", "--states=all", "-o", "%i", "-n", record["name"]).stdout.split()
    assert [record["job_id"]] == named


def test_a_training_whose_node_dies_goes_on_from_its_checkpoint(runs):
    runs.write_profile(gpus_per_node=1, cpus_per_task=1)
    runs.brake()
    run = runs.spawn()
    job_id = runs.wait_for_job()
    runs.wait_for_step(4)

    runs.cluster.kill_node("n2")
    # The run looks at the queue every few seconds, and would miss a job that waits for less.
    until(lambda: f"job {job_id} PENDING" in run.log().partition("RUNNING")[2], WAIT_S)
    runs.release()
    runs.cluster.start_node("n2")
    shown = run.shown()

    assert shown.status == "SUCCESS", shown.failure
    (job,) = runs.attempts()
    assert job["job_id"] == job_id
    assert job["restarts"] == 1
    assert job["starts"][0]["exit_code"] != 0
    assert "continuing after step" in (runs.encoder_folder() / "job" / "attempt-1" / "log.txt").read_text()


def test_a_queue_that_does_not_answer_is_no_failure(runs):
    runs.alone()
    runs.brake()
    run = runs.spawn()
    runs.wait_for_job()
    runs.wait_for_step(1)
    runs.cluster.stop_controller()
    try:
        until(lambda: "has not answered since" in run.log(), WAIT_S)
    finally:
        runs.cluster.start_controller()
    runs.release()

    shown = run.shown()

    assert shown.status == "SUCCESS", shown.failure
    assert "the job goes on meanwhile" in shown.log
    assert "the queue answers again" in shown.log


def test_two_encoders_at_once_are_two_jobs_and_the_same_one_twice_is_one(runs):
    runs.alone()
    runs.brake()
    started = [runs.spawn(name) for name in ("tiny_cytonet", "tiny_scratch", "tiny_cytonet")]
    for name in ("tiny_cytonet", "tiny_scratch"):
        runs.wait_for_job(name)
    until(lambda: all("cytonet/slurm_job" in run.tags() for run in started), WAIT_S)
    runs.release()

    shown = [run.shown() for run in started]

    assert [run.status for run in shown] == ["SUCCESS"] * 3, [run.failure for run in shown]
    jobs = [run.tags["cytonet/slurm_job"] for run in shown]
    assert jobs[0] == jobs[2] != jobs[1]
    assert len(runs.attempts("tiny_cytonet")) == len(runs.attempts("tiny_scratch")) == 1


def test_a_job_that_slurm_refuses_fails_with_its_own_words(runs):
    runs.write_profile(partition="nowhere")

    shown = runs.run()

    assert shown.status == "FAILURE"
    assert "invalid partition specified: nowhere" in shown.failure
    assert "partition` in the profile" in shown.failure


def test_an_environment_without_the_package_is_named_in_one_sentence_in_the_first_minute(runs):
    bare = runs.folder / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True, timeout=60)
    runs.alone(python=str(bare / "bin" / "python"), setup=[])

    shown = runs.run()

    assert shown.status == "FAILURE"
    assert "lacks cytonet_pipeline" in shown.failure
    assert "correct setup or python in the cluster profile" in shown.failure


def test_no_secret_of_the_submitting_process_reaches_script_tags_or_metadata(runs, monkeypatch):
    monkeypatch.setenv("S3_SECRET_KEY", "hunter2-hunter2")
    runs.alone()
    runs.write_profile(**ONE_RANK, setup=[f"export PYTHONPATH={PROJECT}", "env > $place/environment.txt"])

    shown = runs.run()

    assert shown.status == "SUCCESS", shown.failure
    job = runs.encoder_folder() / "job" / "attempt-1"
    assert {"script.sh", "job.json", "log.txt", "messages.jsonl", "environment.txt"} <= {p.name for p in job.iterdir()}
    written = [path.read_text() for path in job.iterdir() if path.is_file()]
    texts = [*written, str(shown.tags), str(shown.metadata), shown.log]
    assert not any("hunter2" in text for text in texts)
