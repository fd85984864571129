"""Training in child processes: started once, found again, stopped with a checkpoint, continued."""

import json
import os
import subprocess
import sys
import time

import pytest

from cytonet_pipeline.cluster import local
from cytonet_pipeline.cluster.attempt import CONTINUE
from cytonet_pipeline.cluster.local import LocalLauncher
from cytonet_pipeline.errors import TrainingError
from cytonet_pipeline.store.processes import birth_of, is_alive

# Stands in for a training process: progress, SIGTERM, exit codes; files in its folder control its behaviour.
STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path
if sys.argv[1] == "-m":
    sys.argv[1:] = sys.argv[sys.argv.index("cytonet_pipeline.learning") + 1:]
folder = Path(sys.argv[1])
def say(state, **more):
    (folder / "next.json").write_text(json.dumps({"state": state, "updated": time.time(), **more}))
    (folder / "next.json").replace(folder / "progress.json")
def stopped(*_):
    say("interrupted"); sys.exit(75)
signal.signal(signal.SIGTERM, stopped)
print("arguments", *sys.argv[1:], os.environ.get("GREETING", ""), flush=True)
say("training", step=1)
while (folder / "slow").exists():
    time.sleep(0.01)
if (folder / "broken").exists():
    print("no such brain", flush=True); sys.exit(1)
if (folder / "requeue").exists():
    (folder / "requeue").unlink(); stopped()
say("done", step=2)
"""


@pytest.fixture
def launcher(tmp_path):
    interpreter = tmp_path / "interpreter"
    interpreter.write_text(f"#!{sys.executable}\n{STAND_IN}")
    interpreter.chmod(0o755)
    return LocalLauncher(tmp_path / "data", threads=1, python=str(interpreter))


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "encoders" / "demo" / "abc"
    place.mkdir(parents=True)
    return place


@pytest.fixture
def slow(folder, launcher):
    """Start a training process that runs until the file `slow` is gone; it is ended afterwards."""
    (folder / "slow").touch()
    attempt = launcher.start(launcher.reserve(folder))
    while not attempt.progress():
        time.sleep(0.01)
    yield attempt
    (folder / "slow").unlink(missing_ok=True)
    attempt.terminate(grace_s=5)


def finished(attempt):
    while (code := attempt.poll()) is None:
        time.sleep(0.01)
    return code


def test_training_runs_and_leaves_its_log_and_record(launcher, folder):
    attempt = launcher.start(launcher.reserve(folder), environment={"GREETING": "hello"})

    assert finished(attempt) == 0
    assert attempt.number == 1
    assert attempt.progress()["step"] == 2
    assert attempt.tail() == f"arguments {folder} --data {launcher.data} --threads 1 hello"
    record = json.loads((folder / "job" / "attempt-1" / "job.json").read_text())
    assert (record["state"], record["exit_code"]) == ("ended", 0)
    assert record["host"] == os.uname().nodename
    assert record["started"] <= record["ended"]


def test_a_training_process_of_an_earlier_run_is_found(launcher, folder, slow):
    """The web server restarts while the job runs."""
    found = LocalLauncher(launcher.data).running(folder)

    assert found.pid == slow.pid
    assert found.poll() is None
    (folder / "slow").unlink()
    # Its parent is this process; a zombie counts as ended.
    slow._child.wait()
    assert finished(found) == 0
    assert launcher.running(folder) is None


def test_train_attaches_to_what_runs_instead_of_starting_a_second_one(launcher, folder, slow):
    seen = []

    def on_progress(report):
        seen.append(report["state"])
        (folder / "slow").unlink(missing_ok=True)

    attempt = launcher.train(folder, on_progress=on_progress, every_s=0.01)

    slow._child.wait()
    assert attempt.pid == slow.pid
    assert [p.name for p in (folder / "job").iterdir()] == ["attempt-1"]
    assert seen[0] == "training"
    assert seen[-1] == "done"


def test_terminate_lets_training_write_a_checkpoint(slow):
    assert slow.terminate(grace_s=10) == CONTINUE
    assert slow.progress()["state"] == "interrupted"


def test_a_training_process_that_ignores_the_signal_is_killed(launcher, folder):
    deaf = folder / "deaf"
    deaf.write_text(f"#!{sys.executable}\nimport signal, time\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(60)")
    deaf.chmod(0o755)
    launcher.python = str(deaf)
    attempt = launcher.start(launcher.reserve(folder))
    time.sleep(0.2)

    assert attempt.terminate(grace_s=0.1) not in (0, CONTINUE)


def test_ranks_in_sessions_of_their_own_are_killed_with_it(launcher, folder):
    """torchrun gives every rank a session of its own: killing its process group leaves them behind."""
    deaf = folder / "deaf"
    rank = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
    deaf.write_text(
        f"#!{sys.executable}\nimport pathlib, signal, subprocess, sys, time\nsignal.signal(15, signal.SIG_IGN)\n"
        f"rank = subprocess.Popen([sys.executable, '-c', {rank!r}], start_new_session=True)\n"
        f"pathlib.Path({str(folder / 'rank')!r}).write_text(str(rank.pid) + '.')\ntime.sleep(60)\n"
    )
    deaf.chmod(0o755)
    launcher.python = str(deaf)
    attempt = launcher.start(launcher.reserve(folder))
    while not (folder / "rank").exists() or not (folder / "rank").read_text().endswith("."):
        time.sleep(0.01)
    rank_pid = int((folder / "rank").read_text()[:-1])
    record = {"host": os.uname().nodename, "born": birth_of(rank_pid)}
    assert is_alive(rank_pid, record)

    attempt.terminate(grace_s=0.1)

    deadline = time.monotonic() + 10
    while is_alive(rank_pid, record) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(rank_pid, record)


def test_a_training_process_that_asks_for_it_is_continued(launcher, folder):
    (folder / "requeue").touch()

    attempt = launcher.train(folder, every_s=0.01)

    assert attempt.number == 2
    first = json.loads((folder / "job" / "attempt-1" / "job.json").read_text())
    assert first["exit_code"] == CONTINUE


def test_a_failure_is_reported_with_the_end_of_its_log(launcher, folder):
    (folder / "broken").touch()

    with pytest.raises(TrainingError, match="exit code 1") as fault:
        launcher.train(folder, every_s=0.01)

    assert "no such brain" in str(fault.value)
    assert str(folder / "job" / "attempt-1" / "log.txt") in str(fault.value)


def test_a_killed_training_process_of_an_earlier_run_counts_as_failed(launcher, folder, slow):
    found = launcher.running(folder)
    slow._child.kill()
    slow._child.wait()

    assert found.poll() == 1


def test_figures_of_an_earlier_attempt_are_not_shown_for_this_one(launcher, folder):
    finished(launcher.start(launcher.reserve(folder)))
    (folder / "slow").touch()
    (folder / "progress.json").write_text(json.dumps({"state": "done", "updated": time.time() - 100}))
    attempt = launcher.start(launcher.reserve(folder))
    try:
        assert attempt.progress().get("state") != "done"
    finally:
        attempt.terminate(grace_s=5)


def test_two_reservations_are_two_attempts(launcher, folder):
    assert [launcher.reserve(folder).name for _ in range(2)] == ["attempt-1", "attempt-2"]


def test_several_ranks_go_through_torchrun(launcher, folder):
    launcher.processes = 2

    command = launcher.command(folder)

    assert command[1:6] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    assert command[6:8] == ["-m", "cytonet_pipeline.learning"]


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_folder_of_the_packages_name_is_not_imported_in_its_place(tmp_path, folder, monkeypatch, processes):
    """`python -m` puts the current folder first: above a checkout of that name every training run ended at once."""
    decoy = tmp_path / "above" / "cytonet_pipeline"
    decoy.mkdir(parents=True)
    (decoy / "__init__.py").write_text("raise ImportError('a folder that has the name of the package')")
    monkeypatch.chdir(decoy.parent)
    monkeypatch.setattr(local, "training_command", lambda *_, **__: ["cytonet_pipeline.learning", "--help"])
    started = LocalLauncher(tmp_path, threads=1, processes=processes)

    attempt = started.start(started.reserve(folder))
    while attempt.poll() is None:
        time.sleep(0.05)

    assert "usage: python -m cytonet_pipeline.learning" in attempt.log.read_text()
    assert attempt.poll() == 0


def test_the_room_needs_neither_torch_nor_dagster():
    script = "import sys, cytonet_pipeline.cluster.launchers; print({'torch', 'dagster'} & set(sys.modules))"

    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("wanted", "processes", "threads"),
    [("3", 1, 3), ("2,1", 4, 2), ("", 2, 4), ("many", 8, 1), ("0", 16, 1)],
)
def test_threads_are_those_that_the_environment_asks_for_or_the_cores_are_shared_out(
    tmp_path, monkeypatch, wanted, processes, threads
):
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    monkeypatch.setattr(local, "usable_cores", lambda: 8)

    assert LocalLauncher(tmp_path, processes=processes).threads == threads
