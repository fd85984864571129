"""Finding, joining and judging jobs, with a queue whose answers the tests determine."""

import json
import threading
import time

import pytest

from cytonet_pipeline.cluster.attempt import CONTINUE, submission_lock
from cytonet_pipeline.cluster.batch.attempt import Patience
from cytonet_pipeline.cluster.batch.job_state import JobState, Phase
from cytonet_pipeline.cluster.batch.record import new_name, write_intent
from cytonet_pipeline.cluster.batch.transport import Finished
from cytonet_pipeline.cluster.launchers import job_facts
from cytonet_pipeline.cluster.slurm.backend import slurm_launcher
from cytonet_pipeline.cluster.slurm.profile import ClusterProfile
from cytonet_pipeline.cluster.slurm.queue import SlurmQueue
from cytonet_pipeline.errors import SubmissionRefused, TransportDown

QUICK = Patience(first_s=0.0, longest_s=0.0, unreachable_s=0.5, forgotten_s=0.2, settled_s=0.3)


class Site:
    """Transport with a simulated Slurm behind it: jobs by id, outages, refusals."""

    def __init__(self) -> None:
        self.jobs: dict[str, JobState] = {}
        self.calls: list[str] = []
        self.down = 0
        self.loses_answers = False
        self.refusal = ""

    def run(self, argv, *, stdin=None, timeout_s=60.0):
        self.calls.append(argv[0])
        if self.down:
            self.down -= 1
            raise TransportDown("no answer.")
        return getattr(self, argv[0])(list(argv), stdin or "")

    def sbatch(self, argv, script):
        if self.refusal:
            return Finished(1, "", f"sbatch: error: {self.refusal}")
        name = next(word for word in argv if word.startswith("--job-name=")).partition("=")[2]
        job_id = str(len(self.jobs) + 1)
        self.jobs[job_id] = JobState(job_id, name, Phase.PENDING, "Priority")
        if self.loses_answers:
            raise TransportDown("sbatch did not answer within 60 s.")
        return Finished(0, job_id, "")

    def squeue(self, argv, _):
        value = argv[-1]
        found = [job for job in self.jobs.values() if value in (job.name, job.job_id)]
        return Finished(0, "".join(self._line(job) for job in found), "")

    def sacct(self, *_):
        return Finished(1, "", "Slurm accounting storage is disabled")

    def scontrol(self, *_):
        return Finished(1, "", "slurm_load_jobs error: Invalid job id specified")

    def scancel(self, argv, _):
        self.set(argv[-1], Phase.CANCELLED)
        return Finished(0, "", "")

    def set(self, job_id, phase, status=0, reason="None", restarts=0):
        job = self.jobs[job_id]
        self.jobs[job_id] = JobState(job_id, job.name, phase, reason, status, 0, "n[1-2]", 2, 3600, restarts, gpus=8)

    def _line(self, job):
        status = (job.exit_code or 0) << 8
        fields = [job.job_id, job.phase, status, job.restarts, job.reason, job.nodes, job.node_count, "1:00:00"]
        return "|".join(map(str, [*fields, f"gres/gpu={job.gpus}", "N/A", job.name])) + "\n"


@pytest.fixture
def site():
    return Site()


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "encoders" / "demo" / "0123456789abcdef"
    place.mkdir(parents=True)
    return place


def launcher_on(site, lines=None):
    return slurm_launcher(
        ClusterProfile(python="python"),
        lambda folder: ["cytonet_pipeline.learning", str(folder)],
        ranks=1,
        queue=SlurmQueue(site),
        patience=QUICK,
        notify=[].append if lines is None else lines.append,
    )


def started(site, folder):
    launcher = launcher_on(site)
    return launcher.start(launcher.reserve(folder))


def write_events(attempt, *events):
    with (attempt.place / "events.jsonl").open("a") as stream:
        stream.writelines(json.dumps({"nodes": "n[1-2]", "node_count": 2, **event}) + "\n" for event in events)


def test_the_intent_is_written_before_the_submission_and_the_id_after_it(site, folder):
    seen = []
    submit = site.sbatch
    site.sbatch = lambda *args: (
        seen.append(json.loads((folder / "job/attempt-1/job.json").read_text())) or submit(*args)
    )

    attempt = started(site, folder)

    assert (seen[0]["state"], "job_id" in seen[0]) == ("intended", False)
    assert (attempt.record["state"], attempt.record["job_id"]) == ("submitted", "1")
    assert attempt.record["name"].startswith("cytonet-demo-01234567-")
    assert attempt.record["name"] == site.jobs["1"].name


def test_a_job_that_waits_is_found_by_a_later_process(site, folder):
    started(site, folder)

    found = launcher_on(site).running(folder)

    assert found.poll() is None
    assert found.label == "Slurm job 1"
    assert found.changes() == ["job 1 PENDING (Priority)"]
    assert found.tags()["cytonet/slurm_job"] == "1"


def test_a_lost_answer_of_sbatch_does_not_lead_to_a_second_job(site, folder):
    site.loses_answers = True
    lines = []
    launcher = launcher_on(site, lines)

    attempt = launcher.start(launcher.reserve(folder))

    assert list(site.jobs) == ["1"]
    assert attempt.job_id == "1"
    assert "sbatch did not answer" in lines[0]


def test_a_submission_that_was_interrupted_before_sbatch_is_made_again(site, folder):
    launcher = launcher_on(site)
    site.down = 10**6
    with pytest.raises(TransportDown):
        launcher.start(launcher.reserve(folder))
    site.down = 0

    assert launcher.running(folder) is None
    assert launcher.start(launcher.reserve(folder)).job_id == "1"
    assert json.loads((folder / "job/attempt-1/job.json").read_text())["refused"] == "its submission was interrupted"


def test_an_interrupted_submission_of_the_future_is_not_waited_for_until_then(site, folder, monkeypatch):
    """The clock was set back since."""
    launcher = launcher_on(site)
    write_intent(launcher.reserve(folder), new_name(folder), "slurm")
    monkeypatch.setattr("time.time", lambda now=time.time: now() - 86400)

    assert launcher.running(folder) is None


def test_a_job_that_reaches_the_queue_after_its_submitter_was_killed_is_found(site, folder):
    """`sbatch` outlives the process that called it, and may still be waiting for a busy controller."""
    launcher = launcher_on(site)
    name = new_name(folder)
    write_intent(launcher.reserve(folder), name, "slurm")
    asked = []
    squeue = site.squeue

    def late(argv, script):
        asked.append(argv)
        if len(asked) == 3:
            site.sbatch([f"--job-name={name}"], "")
        return squeue(argv, script)

    site.squeue = late

    assert launcher.running(folder).job_id == "1"


def test_a_refused_job_is_reported_in_slurms_words_and_is_over(site, folder):
    site.refusal = "invalid partition specified: nowhere"
    launcher = launcher_on(site)

    with pytest.raises(SubmissionRefused, match="invalid partition specified: nowhere"):
        launcher.start(launcher.reserve(folder))

    assert launcher.running(folder) is None


@pytest.mark.parametrize(
    ("phase", "ending", "remedy"),
    [
        (Phase.TIMEOUT, "reached its time limit (TIMEOUT)", "raise walltime"),
        (Phase.NODE_FAIL, "lost a node (NODE_FAIL)", "run again"),
        (Phase.OUT_OF_MEMORY, "ran out of memory (OUT_OF_MEMORY)", "more memory"),
        (Phase.PREEMPTED, "was preempted by another job (PREEMPTED)", "another partition or QOS"),
        (Phase.BOOT_FAIL, "did not start because its nodes did not boot (BOOT_FAIL)", "report it to the site"),
        (Phase.DEADLINE, "could not finish before its deadline (DEADLINE)", "deadline"),
        (Phase.CANCELLED, "was cancelled (CANCELLED) by an unknown user", "run again if it should continue"),
        (Phase.FAILED, "failed (FAILED) with exit code 3", "fix the cause that the log shows"),
    ],
)
def test_each_way_to_fail_is_named_with_nodes_and_remedy(site, folder, phase, ending, remedy, monkeypatch):
    monkeypatch.setattr("cytonet_pipeline.cluster.batch.queue._SETTLES_S", 0.0)
    attempt = started(site, folder)
    write_events(attempt, {"event": "start", "restart": 0, "time": 100})
    site.set("1", phase, status=3)

    until_ended(attempt)

    assert attempt.poll() not in (0, CONTINUE)
    assert ending in attempt.ending()
    assert "on n[1-2]" in attempt.ending()
    assert remedy in attempt.remedy()


def test_nodes_that_never_wrote_anything_cannot_see_the_store(site, folder):
    attempt = started(site, folder)
    site.set("1", Phase.FAILED, status=1)

    until_ended(attempt)

    assert f"its nodes never wrote to {attempt.place}; they cannot see the store" in attempt.ending()


def test_a_run_that_cancels_its_job_is_named_without_accounting(site, folder):
    attempt = started(site, folder)

    assert attempt.terminate(5.0, "Dagster run 1234") == 1
    assert "on behalf of Dagster run 1234" in attempt.ending()


def test_an_outage_of_the_queue_ends_no_job(site, folder):
    attempt = started(site, folder)
    attempt.poll()
    attempt.changes()
    site.down = 1

    assert attempt.poll() is None
    assert "has not answered since" in attempt.changes()[0]
    attempt.queue._ask_again = 0.0
    assert attempt.poll() is None
    assert attempt.changes() == ["the queue answers again"]


def test_a_job_that_slurm_has_forgotten_is_judged_by_what_it_wrote(site, folder):
    attempt = started(site, folder)
    write_events(attempt, {"event": "start", "restart": 0, "time": 100})
    write_events(attempt, {"event": "end", "restart": 0, "time": 400, "code": 0, "step": 9})
    site.jobs.clear()

    until_ended(attempt)

    assert attempt.poll() == 0
    assert attempt.record["phase"] == "COMPLETED"


def test_a_job_that_slurm_has_forgotten_and_that_wrote_no_end_has_failed(site, folder):
    attempt = started(site, folder)
    write_events(attempt, {"event": "start", "restart": 0, "time": 100})
    site.jobs.clear()

    assert attempt.poll() is None
    until_ended(attempt)

    assert attempt.poll() == 1
    assert "not known to Slurm any more" in attempt.ending()


def test_restarts_nodes_and_hours_are_listed_for_a_finished_job(site, folder):
    attempt = started(site, folder)
    submitted = attempt.record["submitted"]
    for restart, (begin, end, code) in enumerate([(10, 1810, 1), (2000, 3800, 0)]):
        write_events(
            attempt,
            {"event": "start", "restart": restart, "time": submitted + begin},
            {"event": "end", "restart": restart, "time": submitted + end, "code": code, "asked": "USR1"},
            *([{"event": "requeue", "restart": 0, "time": 0}] if code else []),
        )
    site.set("1", Phase.COMPLETED, restarts=1)

    until_ended(attempt)

    assert job_facts(folder) == {
        "Slurm job": "1",
        "nodes": "n[1-2]",
        "GPUs": 8,
        "elapsed s": 3600,
        "node-hours": 2.0,
        "waited s": 10.0,
        "restarts": 1,
        "attempts": 1,
    }


def test_two_processes_that_submit_at_once_get_one_job(site, folder):
    joined = []

    def submit():
        launcher = launcher_on(site)
        with submission_lock(folder):
            found = launcher.running(folder)
            joined.append(found is not None)
            if found is None:
                time.sleep(0.3)
                launcher.start(launcher.reserve(folder))

    threads = [threading.Thread(target=submit) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert sorted(joined) == [False, True]
    assert list(site.jobs) == ["1"]


def until_ended(attempt):
    deadline = time.monotonic() + 5
    while attempt.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
