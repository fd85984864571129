"""The job script: its text, and what it does under bash with stand-ins for srun and scontrol."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cytonet_pipeline.cluster.batch.launcher import Job
from cytonet_pipeline.cluster.batch.record import starts
from cytonet_pipeline.cluster.slurm.profile import ClusterProfile
from cytonet_pipeline.cluster.slurm.script import render

GOLDEN = Path(__file__).with_name("job_script.sh")
TRAINING = ("cytonet_pipeline.learning", "/p/store/encoders/demo/v1", "--data", "/p/brains", "--threads", "32")
JURECA = ClusterProfile(
    partition="dc-gpu",
    account="jinm1",
    nodes=4,
    gpus_per_node=4,
    cpus_per_task=128,
    walltime="24:00:00",
    directives={"constraint": "largedata", "hint": "nomultithread", "exclusive": True},
    launcher=("torchrun_jsc",),
    setup=("source /p/env/activate.sh", "export HDF5_USE_FILE_LOCKING=FALSE"),
    python="/p/env/bin/python",
    master_suffix="i",
)

# Stands in for a training process: signals, progress, exit code. Without $(seq …): bash 5.2 fails over a trap that runs
# in the middle of a command substitution.
STAND_IN = """
trap 'say interrupted 7; exit 75' USR1 TERM
say() { echo "{\\"state\\": \\"$1\\", \\"step\\": $2}" > "$FOLDER/progress.json"; }
say training 5
for ((n = 0; n < 300; n++)); do [ -e "$FOLDER/go" ] && { say done 9; exit 0; }; sleep 0.05; done
"""


def test_the_script_for_the_posters_cluster_is_the_recorded_one():
    """If the script was changed on purpose, review the difference and update the recorded file."""
    job = Job(
        "cytonet-demo-v1-0a1b2c3d", Path("/p/store/job/attempt-1"), "encoder", TRAINING, 4, {"OMP_NUM_THREADS": "32"}
    )

    assert render(job, JURECA) == GOLDEN.read_text()


def test_the_script_is_valid_bash_with_any_names(tmp_path):
    place = tmp_path / "a place with ' and % and $HOME" / "job" / "attempt-1"
    script = render(Job("n", place, "encoder", ("m", "it's"), 2, {"GREETING": "$(rm -rf /) 'quoted'"}), JURECA)

    assert subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True).stderr == ""
    assert f'#SBATCH "--output={place}/log.txt"'.replace("% ", "%% ") in script


def test_a_step_without_ranks_needs_neither_launcher_nor_rendezvous():
    script = render(
        Job("n", Path("/s/job/attempt-1"), "patch_index", ("cytonet_pipeline.stages", "patch_index")), JURECA
    )

    assert (
        "srun --kill-on-bad-exit=1 --nodes=1 --ntasks-per-node=1 /p/env/bin/python -m cytonet_pipeline.stages" in script
    )
    assert "#SBATCH --nodes=1\n" in script
    assert "torchrun" not in script
    assert "MASTER" not in script


class Ran:
    """The script under bash, as the batch shell of a job."""

    def __init__(self, folder: Path, training: str = STAND_IN, **variables: str) -> None:
        self.folder = folder
        self.place = folder / "job" / "attempt-1"
        self.place.mkdir(parents=True, exist_ok=True)
        commands = folder / "bin"
        commands.mkdir(exist_ok=True)
        self._command(commands / "srun", 'while [[ $1 == --* ]]; do shift; done; exec "$@"')
        self._command(commands / "scontrol", f'echo "$@" >> {folder}/scontrol.txt; [ "$1" != show ] || echo localhost')
        self._command(commands / "ranks", training)
        profile = ClusterProfile(launcher=(str(commands / "ranks"),), python=sys.executable)
        script = render(Job("n", self.place, "encoder", ("m",), 1), profile)
        environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "FOLDER": str(folder)}
        environment |= {"SLURM_JOB_ID": "12", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_NUM_NODES": "2", **variables}
        self.process = subprocess.Popen(
            ["bash", "-c", script],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Dagster, if a test has imported it, gives SIGTERM the handler of SIGINT, and a run in the background of a
            # shell ignores SIGINT. What is ignored when bash starts, it cannot trap.
            preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
        )

    def _command(self, path: Path, text: str) -> None:
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)

    def wait_for_training(self) -> None:
        deadline = time.monotonic() + 20
        while not (self.folder / "progress.json").exists():
            assert time.monotonic() < deadline, self.end()
            time.sleep(0.02)

    def end(self) -> int:
        self.output, _ = self.process.communicate(timeout=30)
        return self.process.returncode

    @property
    def requeued(self) -> bool:
        calls = self.folder / "scontrol.txt"
        return calls.exists() and "requeue 12" in calls.read_text()


def test_a_job_that_ends_well_records_it_beside_its_log(tmp_path):
    ran = Ran(tmp_path)
    ran.wait_for_training()
    (tmp_path / "go").touch()

    assert ran.end() == 0
    (run,) = starts(ran.place)
    assert (run["nodes"], run["node_count"], run["exit_code"], run["step"]) == ("n[1-2]", 2, 0, 9)
    assert not ran.requeued


def test_the_warning_before_the_walltime_reaches_the_training_process_and_requeues_the_job(tmp_path):
    ran = Ran(tmp_path)
    ran.wait_for_training()
    ran.process.send_signal(signal.SIGUSR1)

    ran.end()
    assert ran.requeued
    (run,) = starts(ran.place)
    assert (run["requeued"], run["asked"], run["step"]) == (True, "USR1", 7)


def test_a_cancelled_job_does_not_come_back(tmp_path):
    ran = Ran(tmp_path)
    ran.wait_for_training()
    ran.process.send_signal(signal.SIGTERM)

    assert ran.end() == 75
    assert not ran.requeued
    assert json.loads((tmp_path / "progress.json").read_text())["state"] == "interrupted"


def test_an_error_just_after_the_warning_is_an_error(tmp_path):
    failing = STAND_IN.replace("say interrupted 7; exit 75", "say failed 7; exit 1")
    ran = Ran(tmp_path, failing)
    ran.wait_for_training()
    ran.process.send_signal(signal.SIGUSR1)

    assert ran.end() == 1
    assert not ran.requeued


def test_a_job_that_gets_nowhere_in_a_whole_walltime_is_not_requeued_for_ever(tmp_path):
    for restart in ("0", "1"):
        (tmp_path / "progress.json").unlink(missing_ok=True)
        (tmp_path / "scontrol.txt").unlink(missing_ok=True)
        ran = Ran(tmp_path, SLURM_RESTART_COUNT=restart)
        ran.wait_for_training()
        ran.process.send_signal(signal.SIGUSR1)
        ran.end()

    assert not ran.requeued
    assert "raise walltime or lower checkpoint_every" in (ran.place / "fault.txt").read_text()


def test_a_full_store_is_reported_in_one_sentence(tmp_path):
    """A folder in place of the trial file stands in for a full quota."""
    (tmp_path / "job" / "attempt-1" / ".room").mkdir(parents=True)
    ran = Ran(tmp_path)

    assert ran.end() == 1
    assert "cannot write to" in (ran.place / "fault.txt").read_text()
    assert ran.output.count("\n") <= 3


@pytest.mark.parametrize(("python", "message"), [("/usr/bin/env-less/python", "does not run")])
def test_a_python_that_does_not_run_is_reported_in_one_sentence(tmp_path, monkeypatch, python, message):
    monkeypatch.setattr(sys, "executable", python)

    ran = Ran(tmp_path)

    assert ran.end() == 1
    assert message in (ran.place / "fault.txt").read_text()


def test_a_warning_after_the_end_of_training_does_not_start_it_again(tmp_path):
    """torchrun reports the signal even if its ranks have finished meanwhile."""
    ran = Ran(tmp_path, STAND_IN.replace("say interrupted 7; exit 75", "say done 9; exit 1"))
    ran.wait_for_training()
    ran.process.send_signal(signal.SIGUSR1)

    assert ran.end() == 0
    assert not ran.requeued
    assert starts(ran.place)[0]["exit_code"] == 0
