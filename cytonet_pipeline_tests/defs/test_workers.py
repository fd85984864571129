"""Runs side by side: what is begun when, progress and faults of workers, interruptions."""

import os
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import dagster as dg
import pytest

from cytonet_pipeline import progress
from cytonet_pipeline.defs.job_run import RunSummary, WalkedJob
from cytonet_pipeline.defs.walk import PlannedRun, next_run
from cytonet_pipeline.defs.workers import Workers, _interrupt
from cytonet_pipeline.store.reading_note import reading
from cytonet_pipeline_tests.conftest import settings_for

DIED = "its worker process ended with"


def run_of(name, *after, long=False):
    return PlannedRun(WalkedJob(name, (), None), None, frozenset(after), long)


def order_of_starts(planned, count):
    """Begin runs on `count` workers of which the one that began first ends first, long runs after all others."""
    waiting, running, ended, started = list(planned), [], set(), []
    while waiting or running:
        while len(running) < count and (run := next_run(waiting, ended, count)):
            waiting.remove(run)
            running.append(run)
            started.append(run.label)
        running.sort(key=lambda run: run.long)
        ended.add(running.pop(0).label)
    return started


def test_one_worker_takes_runs_in_their_order():
    planned = [run_of("train a", long=True), run_of("try a", "train a"), run_of("train b", long=True), run_of("try b")]

    assert order_of_starts(planned, 1) == ["train a", "try a", "train b", "try b"]


def test_results_show_early_and_the_last_long_run_does_not_wait_for_short_ones():
    planned = [
        run for name in "abcd" for run in (run_of(f"train {name}", long=True), run_of(f"try {name}", f"train {name}"))
    ]

    assert order_of_starts([*planned, run_of("table", *(run.label for run in planned))], 2) == [
        "train a",
        "train b",
        "try a",
        "train c",
        "train d",
        "try b",
        "try c",
        "try d",
        "table",
    ]


def definitions(resources, *, whats):
    """Definitions whose reference does one thing after the other; `Workers` builds them in another process."""

    @dg.asset(name="reference_space")
    def stand_in():
        what = whats.pop(0)
        with progress.task("stand-in", 10) as line:
            line.to(4, what)
            if what == "die":
                with reading("sub-B01, sample 0020 (/scans/0020.tif)"):
                    os.kill(os.getpid(), signal.SIGKILL)
            if what == "wait":
                time.sleep(60)
        if what == "fail":
            raise ValueError("no such thing")

    job = dg.define_asset_job("reference", [stand_in], executor_def=dg.in_process_executor)
    return dg.Definitions(assets=[stand_in], jobs=[job])


@dataclass
class Shown:
    """A display, and the lines on it, that keeps what it shows."""

    interrupt: bool
    lines: list = field(default_factory=list)

    @contextmanager
    def task(self, description, total):
        self.lines.append((description, total))
        yield self
        self.lines.append(("closed", description))

    def to(self, done, note=""):
        self.lines.append((done, note))
        if self.interrupt:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def run_stand_in(small_brains, tmp_path):
    """Run a stand-in on a worker; return what was shown, and the summaries. The states in Dagster are in `states`."""
    settings, ended, states = settings_for(small_brains, tmp_path / "store"), [], []

    def run(*whats, interrupt=False):
        shown = Shown(interrupt)
        with dg.DagsterInstance.local_temp(str(tmp_path)) as instance, progress.shown_on(shown):
            workers = Workers(partial(definitions, whats=[*whats]), settings, instance, count=1, threads=1)
            try:
                with workers:
                    for _ in whats:
                        workers.start(WalkedJob("reference", ("reference_space",), None), None, blocked=False)
                        ended.extend(workers.wait())
            finally:
                states.extend(run.status.value for run in instance.get_runs())
        return shown.lines, ended

    run.states = states
    return run


def test_a_worker_reports_progress_and_summaries_and_its_death_is_a_failure_of_its_run(run_stand_in):
    lines, ended = run_stand_in("work", "fail", "die")

    assert lines == [(of, content) for what in ("work", "fail", "die") for of, content in [
        ("stand-in", 10), (4.0, what), ("closed", "stand-in"),
    ]]  # fmt: skip
    assert ended[:2] == [
        ("reference", RunSummary(done=["reference"])),
        ("reference", RunSummary(failed={"reference": "ValueError: no such thing"})),
    ]
    died = ended[2][1].failed["reference"]
    assert died.startswith(f"{DIED} signal SIGKILL; run it again to go on. Process ")
    assert "ended while it read sub-B01, sample 0020 (/scans/0020.tif)" in died


def test_an_interruption_reaches_the_run_of_the_worker(run_stand_in):
    """Ctrl-C and SIGTERM come to the process of the command line; Dagster must not show its run as going on."""
    with pytest.raises(KeyboardInterrupt):
        run_stand_in("wait", interrupt=True)

    assert run_stand_in.states == ["FAILURE"]
    assert signal.getsignal(signal.SIGTERM) is not _interrupt
