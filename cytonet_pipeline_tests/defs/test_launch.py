"""Following an attempt: what looks like success and is none, and what must not be started twice."""

import json
import sys
import time

import dagster as dg
import pytest
from dagster_pipes import DAGSTER_PIPES_CONTEXT_ENV_VAR as CONTEXT
from dagster_pipes import PipesDefaultContextLoader, decode_param

from cytonet_pipeline.cluster.local import LocalLauncher
from cytonet_pipeline.defs.training import launch as module
from cytonet_pipeline.errors import TrainingError
from cytonet_pipeline.stages import ENCODER
from cytonet_pipeline.store import Store
from cytonet_pipeline_tests.conftest import settings_for

REPORTING = "from dagster_pipes import open_dagster_pipes\nwith open_dagster_pipes(): pass\n"
OPENED = json.dumps({"__dagster_pipes_version": "0.1", "method": "opened", "params": {}}) + "\n"
WRITES_ENCODER = "import pathlib; pathlib.Path({folder!r}, 'encoder.json').write_text('{{}}')\n"


@pytest.fixture
def prepared(tmp_path):
    """Settings, and the folder of an encoder whose training set has been decided."""
    settings = settings_for(tmp_path, tmp_path / "store")
    store = Store(settings.store)
    store.point_wanted("tiny_cytonet", "v1")
    folder = store.encoder("tiny_cytonet", "v1")
    folder.mkdir(parents=True)
    return settings, folder


def train_with(monkeypatch, code: str) -> None:
    monkeypatch.setattr(LocalLauncher, "command", lambda self, folder: [sys.executable, "-c", code])


def follow(settings, instance=None):
    """Run the op's work inside a real run, as Dagster does."""
    caught: list[BaseException] = []

    @dg.op(out=dg.Out(dg.Nothing))
    def train(context: dg.OpExecutionContext):
        try:
            module.launch(context, settings, "tiny_cytonet")
        except TrainingError as error:
            caught.append(error)
        yield dg.Output(None)

    @dg.job
    def job():
        train()

    result = job.execute_in_process(instance=instance)
    return result, (caught[0] if caught else None)


def test_a_process_that_ends_well_without_ever_reporting_is_a_failure(prepared, monkeypatch):
    """Trap 8 in docs/dagster.md: a Pipes client that looks at the exit code alone records success."""
    settings, folder = prepared
    train_with(monkeypatch, WRITES_ENCODER.format(folder=str(folder)))

    _, error = follow(settings)

    assert "without ever reporting" in str(error)


def test_a_process_that_reports_but_leaves_no_encoder_is_a_failure(prepared, monkeypatch):
    settings, _ = prepared
    train_with(monkeypatch, REPORTING)

    _, error = follow(settings)

    assert "without an encoder" in str(error)


def test_a_failure_shows_the_end_of_the_log_and_where_it_lies(prepared, monkeypatch):
    settings, folder = prepared
    train_with(monkeypatch, "print('CUDA error: out of cheese'); raise SystemExit(3)")

    _, error = follow(settings)

    assert "exit code 3" in str(error)
    assert "out of cheese" in str(error)
    assert str(folder / "job" / "attempt-1" / "log.txt") in str(error)


def test_a_training_that_reports_and_finishes_is_a_success(prepared, monkeypatch):
    settings, folder = prepared
    train_with(monkeypatch, REPORTING + WRITES_ENCODER.format(folder=str(folder)))

    result, error = follow(settings)

    assert error is None
    assert result.success


def test_progress_shows_in_dagster_while_the_training_runs(prepared, monkeypatch):
    """Trap 10 in docs/dagster.md: what a child reports through Pipes inside a graph is dropped, or comes at the end."""
    settings, folder = prepared
    figures = {"step": 7, "loss": 1.5, "learning_rate": 1e-3, "effective_rank": 9.5, "knn_accuracy": 0.25}
    status = {"state": "training", "steps": 9, "host": "n1", "pid": 12, "updated": time.time() + 60, **figures}
    write = f"import pathlib; pathlib.Path({str(folder / 'progress.json')!r}).write_text({json.dumps(status)!r})\n"
    train_with(monkeypatch, REPORTING + write + WRITES_ENCODER.format(folder=str(folder)))

    result, _ = follow(settings)

    seen = [e.asset_observation_data.asset_observation for e in result.all_events if e.is_asset_observation]
    assert {name: value.value for name, value in seen[-1].metadata.items()} == figures
    assert seen[-1].partition == "tiny_cytonet"


def test_a_running_training_of_a_killed_run_is_joined_and_not_started_again(prepared, monkeypatch):
    """Trap 18 in docs/dagster.md: a new run has another id and no parent; what it must find lies in the store."""
    settings, folder = prepared
    done = "import json, pathlib, time; time.sleep(2)\n"
    done += f"pathlib.Path({str(folder / 'job' / 'attempt-1' / 'messages.jsonl')!r}).write_text({OPENED!r})\n"
    done += "status = json.dumps({'state': 'done', 'updated': time.time()})\n"
    done += f"pathlib.Path({str(folder / 'progress.json')!r}).write_text(status)\n"
    train_with(monkeypatch, done + WRITES_ENCODER.format(folder=str(folder)))
    launcher = LocalLauncher(settings.data)
    left_behind = launcher.start(launcher.reserve(folder), {})

    _, error = follow(settings)
    while left_behind.poll() is None:
        time.sleep(0.1)

    assert error is None
    assert [path.name for path in (folder / "job").iterdir()] == ["attempt-1"]


def test_a_training_that_runs_is_not_thrown_away_to_be_recomputed(prepared, monkeypatch):
    """With its folder its record would go, and a second training would be started beside it."""
    settings, folder = prepared
    train_with(monkeypatch, "import time; time.sleep(60)")
    launcher = LocalLauncher(settings.data)
    running = launcher.start(launcher.reserve(folder), {})
    try:
        with pytest.raises(TrainingError, match="waits or runs"):
            ENCODER.prepare(settings, "tiny_cytonet", recompute=True)
        assert launcher.running(folder) is not None
    finally:
        running.terminate(grace_s=5)


def test_messages_of_an_earlier_attempt_stay(prepared, monkeypatch):
    """Trap 9 in docs/dagster.md: the reader empties the file that it opens, so each attempt has its own."""
    settings, folder = prepared
    train_with(monkeypatch, REPORTING)
    follow(settings)
    first = folder / "job" / "attempt-1" / "messages.jsonl"
    messages = first.read_text()
    assert messages

    follow(settings)

    assert first.read_text() == messages
    assert (folder / "job" / "attempt-2" / "messages.jsonl").exists()


def test_a_process_that_starts_late_finds_its_context_in_its_environment(prepared, monkeypatch):
    """Trap 9 in docs/dagster.md: a context file is gone once the session has closed; a job may start days later."""
    settings, folder = prepared
    keep = f"import os, pathlib; pathlib.Path({str(folder / 'context')!r}).write_text(os.environ[{CONTEXT!r}])\n"
    train_with(monkeypatch, keep + REPORTING + WRITES_ENCODER.format(folder=str(folder)))

    follow(settings)

    context = decode_param((folder / "context").read_text())
    assert set(context) == {PipesDefaultContextLoader.DIRECT_KEY}
    assert context[PipesDefaultContextLoader.DIRECT_KEY]["job_name"] == "job"


def test_a_training_that_wants_to_be_continued_is_continued(prepared, monkeypatch):
    """Exit code 75: stopped by a signal from outside, with a checkpoint written. No failure, another attempt."""
    settings, folder = prepared
    first = f"import pathlib, sys; seen = pathlib.Path({str(folder / 'seen')!r})\n"
    first += "if not seen.exists():\n    seen.write_text(''); sys.exit(75)\n"
    train_with(monkeypatch, first + REPORTING + WRITES_ENCODER.format(folder=str(folder)))

    _, error = follow(settings)

    assert error is None
    assert sorted(path.name for path in (folder / "job").iterdir()) == ["attempt-1", "attempt-2"]


def test_a_finished_encoder_is_not_trained_again(prepared, monkeypatch):
    settings, folder = prepared
    (folder / "encoder.json").write_text("{}")
    train_with(monkeypatch, "raise SystemExit(1)")

    _, error = follow(settings)

    assert error is None
    assert not (folder / "job").exists()


def test_a_terminated_run_ends_its_training(prepared, monkeypatch):
    """From the UI or by Ctrl-C: no process may go on using the machine."""
    settings, folder = prepared
    train_with(monkeypatch, "import time; time.sleep(60)")

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_note", interrupted)
    with pytest.raises((KeyboardInterrupt, dg.DagsterExecutionInterruptedError)):
        follow(settings)

    launcher = LocalLauncher(settings.data)
    deadline = time.monotonic() + 10
    while launcher.running(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert launcher.running(folder) is None
