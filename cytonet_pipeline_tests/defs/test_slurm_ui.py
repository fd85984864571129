"""A run launched in the UI whose training is a Slurm job: terminated there, or left behind by a server that stops."""

import os
import re
import signal
import socket

import dagster as dg
import pytest

from cytonet_pipeline_tests.cluster.processes import until
from cytonet_pipeline_tests.defs.slurm_runs import WAIT_S, RunShown, SlurmRuns
from cytonet_pipeline_tests.defs.test_ui import LAUNCH, STATUS
from cytonet_pipeline_tests.defs.ui_server import Server

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm"), pytest.mark.timeout(500)]

TERMINATE = """mutation Terminate($id: String!) { terminateRun(runId: $id) { __typename
  ... on TerminateRunFailure { message } ... on PythonError { message } } }"""


@pytest.fixture
def runs(slurm, small_brains, indexed, tmp_path):
    made = SlurmRuns(slurm, small_brains, indexed, tmp_path)
    made.alone()
    made.brake()
    yield made
    made.close()


@pytest.fixture
def server(runs, tmp_path, monkeypatch):
    for name, value in runs.environment.items():
        monkeypatch.setenv(name, value)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = Server(runs.settings(), tmp_path / "dagster", port)
    try:
        started.wait()
        yield started
    finally:
        started.stop()


def launch_training(server) -> str:
    params = {
        "selector": {
            "repositoryLocationName": "cytonet_pipeline",
            "repositoryName": "__repository__",
            "pipelineName": "train_encoder",
        },
        "mode": "default",
        "runConfigData": {},
        "executionMetadata": {"tags": [{"key": "dagster/partition", "value": "tiny_cytonet"}]},
    }
    launched = server.ask(LAUNCH, params=params)["launchPipelineExecution"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    return str(launched["run"]["runId"])


def status_of(server, run_id: str) -> str:
    return str(server.ask(STATUS, id=run_id)["runOrError"]["status"])


def shown(runs, run_id: str) -> RunShown:
    with dg.DagsterInstance.from_config(str(runs.home)) as instance:
        return RunShown(instance, run_id)


def test_terminating_the_run_cancels_its_job(server, runs):
    run_id = launch_training(server)
    job_id = runs.wait_for_job()
    runs.wait_for_step(1)

    assert server.ask(TERMINATE, id=run_id)["terminateRun"]["__typename"] == "TerminateRunSuccess"

    until(lambda: status_of(server, run_id) == "CANCELED", WAIT_S)
    until(lambda: runs.jobs()[job_id] == "CANCELLED", WAIT_S)
    (job,) = runs.attempts()
    assert (job["state"], job["phase"], job["cancelled_for"]) == ("ended", "CANCELLED", f"Dagster run {run_id}")
    assert f"ending Slurm job {job_id}" in shown(runs, run_id).log


def test_a_server_that_stops_leaves_the_job_to_the_next_run(server, runs):
    """A restart of the daemon or the web server is not a request to end the training."""
    run_id = launch_training(server)
    job_id = runs.wait_for_job()
    worker = _worker(shown(runs, run_id))

    os.kill(worker, signal.SIGTERM)
    until(lambda: status_of(server, run_id) == "FAILURE", WAIT_S)

    assert f"Slurm job {job_id} goes on; the next run of this asset finds it" in shown(runs, run_id).log
    assert runs.jobs()[job_id] == "RUNNING"
    again = launch_training(server)
    until(lambda: "joining attempt" in shown(runs, again).log, WAIT_S)
    runs.release()
    until(lambda: status_of(server, again) in {"SUCCESS", "FAILURE"}, WAIT_S)
    assert shown(runs, again).status == "SUCCESS", shown(runs, again).failure
    assert f"joining attempt 1: Slurm job {job_id}" in shown(runs, again).log


def _worker(run: RunShown) -> int:
    """The process of a run, as Dagster's own event names it."""
    found = re.search(r"Executing steps in process \(pid: (\d+)\)", run.log)
    assert found, run.log
    return int(found[1])
