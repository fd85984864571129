"""Whether a run is requested, by real records of the runs that a brain has had, in each status and at any age."""

import time

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from cytonet_pipeline.definitions import build_defs
from cytonet_pipeline.defs import run_requests
from cytonet_pipeline.defs.instance import TAGS_OF_PROCESS, tags_of_this_process
from cytonet_pipeline.defs.run_requests import ATTEMPT_TAG, INPUTS_TAG, decide_runs, pause_s

ASSETS = ["section_scans", "colin27_transforms", "patch_index"]
# Where the daemon finds the job of a run in the queue.
_REPOSITORY = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("cytonet_pipeline"), "__repository__")
MINUTE, DAY = 60.0, 86400.0
Status = dg.DagsterRunStatus


@pytest.fixture(scope="module")
def defs():
    return build_defs()


class Brain:
    """The brain B01 on an instance; what it would be made from is `now`."""

    def __init__(self, instance, defs, monkeypatch):
        self.instance = instance
        self.defs = defs
        self._patch = monkeypatch
        self.later = 0.0
        instance.add_dynamic_partitions("brain", ["B01", "B02"])

    def has_run(self, status, inputs="now", job="ingest_brain", partition="B01", assets=None, tags=None):
        """Make a real record of a run."""
        tags = {"dagster/partition": partition, **({INPUTS_TAG: inputs} if inputs else {}), **(tags or {})}
        run = self.instance.create_run_for_job(
            self.defs.resolve_job_def(job) if assets is None else self.defs.resolve_implicit_global_asset_job_def(),
            tags=tags,
            status=status if status not in (Status.FAILURE, Status.CANCELED) else Status.STARTED,
            remote_job_origin=RemoteJobOrigin(_REPOSITORY, job),
            asset_selection=None if assets is None else frozenset(dg.AssetKey(asset) for asset in assets),
        )
        if status is Status.FAILURE:
            self.instance.report_run_failed(run)
        if status is Status.CANCELED:
            self.instance.report_run_canceled(run)
        return run

    def wait(self, seconds):
        """Let time pass, for the next decision."""
        self.later += seconds
        self._patch.setattr(run_requests.time, "time", lambda now=time.time, later=self.later: now() + later)

    def decisions(self, inputs="now"):
        return decide_runs(self.instance, "ingest_brain", ASSETS, {"B01": inputs})

    def is_requested(self, inputs="now"):
        return bool(self.decisions(inputs).requests)

    def reason(self, inputs="now"):
        decided = self.decisions(inputs)
        assert not decided.requests
        return decided.held_back["B01"]


@pytest.fixture
def brain(defs, monkeypatch):
    with dg.DagsterInstance.ephemeral() as instance, monkeypatch.context() as patch:
        yield Brain(instance, defs, patch)


def test_a_brain_without_any_run_is_requested(brain):
    (request,) = brain.decisions().requests

    assert request.partition_key == "B01"
    assert request.run_key is None
    assert request.tags == {INPUTS_TAG: "now", ATTEMPT_TAG: "1"}


@pytest.mark.parametrize(
    "status", [Status.QUEUED, Status.NOT_STARTED, Status.STARTING, Status.STARTED, Status.CANCELING]
)
@pytest.mark.parametrize("inputs", ["now", "before", None])
def test_an_unfinished_run_is_waited_for_whatever_it_is_made_from_and_however_long(brain, status, inputs):
    run = brain.has_run(status, inputs)
    brain.wait(40 * DAY)

    assert run.run_id[:8] in brain.reason()
    assert status.value.lower().replace("_", " ") in brain.reason()


def test_no_more_runs_are_requested_at_a_time_than_allowed_and_those_in_the_queue_count(brain):
    """An old data set of a hundred brains must not become a hundred runs at once."""

    def decide(most):
        return decide_runs(
            brain.instance, "ingest_brain", ASSETS, {"B03": "now", "B01": "now", "B02": "now"}, most=most
        )

    decided = decide(2)
    assert [request.partition_key for request in decided.requests] == ["B03", "B01"]
    assert decided.held_back == {"B02": "waits for its turn: at most 2 runs of ingest_brain are requested at a time"}

    brain.has_run(Status.STARTED, partition="B03")
    assert [request.partition_key for request in decide(2).requests] == ["B01", "B02"], "one that works is not in line"
    brain.has_run(Status.QUEUED, partition="B01")
    decided = decide(2)
    assert [request.partition_key for request in decided.requests] == ["B02"]
    assert set(decided.held_back) == {"B03", "B01"}
    brain.has_run(Status.QUEUED, partition="B02")
    assert decide(2).requests == []


def test_an_unfinished_run_is_waited_for_also_behind_one_that_has_ended(brain):
    queued = brain.has_run(Status.QUEUED)
    brain.has_run(Status.FAILURE)
    brain.wait(DAY)

    assert queued.run_id[:8] in brain.reason()


def test_the_run_of_another_brain_or_of_an_encoder_of_the_same_name_is_none_of_this_one(brain, defs):
    brain.has_run(Status.STARTED, partition="B02")
    brain.has_run(Status.STARTED, partition="B01", assets=["encoder"])

    assert brain.is_requested()


def test_a_run_that_a_person_started_on_an_assets_page_counts(brain):
    run = brain.has_run(Status.STARTED, None, assets=["patch_index"])

    assert run.run_id[:8] in brain.reason()


def test_a_failed_brain_is_requested_again_after_twice_the_time_each_time(brain):
    for attempt, pause in enumerate((10, 20, 40, 80), start=1):
        brain.wait(2 * DAY)
        assert brain.decisions().requests[0].tags[ATTEMPT_TAG] == str(attempt)
        brain.has_run(Status.FAILURE)
        brain.later = 0.0
        brain.wait((pause - 1) * MINUTE)
        assert f"attempt {attempt}, failed on" in brain.reason()
        assert "or at once when its inputs change or a person starts ingest_brain for it" in brain.reason()
        brain.wait(2 * MINUTE)
        assert brain.is_requested()
    assert pause_s(1000) == DAY


def test_a_clock_that_was_set_back_holds_a_failed_brain_no_longer_than_twice_its_pause(brain):
    """By the time of the last run it would wait until the clock is where it was."""
    brain.wait(-3 * DAY)
    assert brain.is_requested()
    brain.later = 0.0
    run = brain.has_run(Status.FAILURE)
    brain.wait(-9 * MINUTE)
    assert f"run {run.run_id[:8]}, attempt 1, failed" in brain.reason()
    assert "ended ahead of this machine's clock" in brain.reason()
    brain.later = 0.0
    brain.wait(-3 * DAY)
    assert brain.is_requested()


def test_a_host_whose_clock_is_ahead_does_not_do_away_with_the_pauses(brain):
    """Its failed runs always end in the future: each is asked for after a longer time all the same."""
    pauses = []
    for _ in range(3):
        brain.has_run(Status.FAILURE)
        brain.later = 0.0
        brain.wait(-15 * MINUTE)
        pauses.append(brain.is_requested())

    assert pauses == [True, False, False]


def test_a_failed_brain_is_requested_at_once_when_its_inputs_change(brain):
    for _ in range(5):
        brain.has_run(Status.FAILURE, "before")

    (request,) = brain.decisions().requests

    assert request.tags[ATTEMPT_TAG] == "1"


def test_a_failure_of_unknown_inputs_is_waited_after_too(brain):
    """A run that a person started may fail before it knows what it is made from."""
    brain.has_run(Status.FAILURE, None)

    assert "attempt 1, failed" in brain.reason()
    brain.wait(11 * MINUTE)
    assert brain.is_requested()


def test_a_run_that_a_person_has_cancelled_is_left_to_persons_until_inputs_change(brain):
    run = brain.has_run(Status.CANCELED)
    brain.wait(40 * DAY)

    assert f"run {run.run_id[:8]} was cancelled on" in brain.reason()
    assert brain.is_requested("other inputs")


def test_a_run_that_was_cancelled_in_the_queue_comes_after_a_day(brain):
    """It never knew its inputs, and a brain that changes later must not wait for ever."""
    brain.has_run(Status.CANCELED, None)

    assert "was cancelled on" in brain.reason()
    brain.wait(DAY + MINUTE)
    assert brain.is_requested()


@pytest.mark.parametrize("inputs", ["before", None])
def test_a_brain_that_has_changed_since_it_came_in_is_requested_at_once(brain, inputs):
    brain.has_run(Status.SUCCESS, inputs)

    assert brain.is_requested()


def test_a_run_that_succeeds_without_bringing_the_brain_in_is_not_repeated_every_minute(brain):
    brain.has_run(Status.SUCCESS)

    assert "succeeded, and yet the store is not up to date" in brain.reason()
    brain.wait(11 * MINUTE)
    assert brain.is_requested()


def test_a_success_ends_the_count_of_failures(brain):
    brain.has_run(Status.FAILURE)
    brain.has_run(Status.SUCCESS, "before")
    brain.has_run(Status.FAILURE)

    assert "attempt 1, failed" in brain.reason()


def test_the_run_of_a_process_that_was_killed_does_not_hold_a_brain_for_ever(brain):
    gone = {**tags_of_this_process(), f"{TAGS_OF_PROCESS}born": "another process of this number"}
    run = brain.has_run(Status.STARTED, tags=gone)

    assert f"run {run.run_id[:8]}, attempt 1, failed on" in brain.reason()
    brain.wait(11 * MINUTE)
    assert brain.is_requested()


def backfill_of(brain, assets, partitions, status=BulkActionStatus.REQUESTED):
    made = PartitionBackfill.from_asset_partitions(
        "backfill1",
        asset_graph=brain.defs.resolve_asset_graph(),
        partition_names=partitions,
        asset_selection=[dg.AssetKey(asset) for asset in assets],
        backfill_timestamp=time.time(),
        tags={},
        dynamic_partitions_store=brain.instance,
        all_partitions=False,
        title=None,
        description=None,
        run_config=None,
    )
    brain.instance.add_backfill(made.with_status(status))
    return made


def test_a_backfill_that_has_not_come_to_the_brain_yet_is_waited_for(brain):
    made = backfill_of(brain, ASSETS, ["B01", "B02"])

    assert brain.reason() == "waits for the backfill backfill1, which includes it"
    brain.instance.update_backfill(made.with_status(BulkActionStatus.COMPLETED_FAILED))
    assert brain.is_requested()


def test_a_backfill_of_other_brains_or_other_assets_holds_nothing_back(brain):
    backfill_of(brain, ASSETS, ["B02"])

    assert brain.is_requested()


def test_what_is_held_back_is_said_for_so_many_that_people_still_read_it():
    decided = run_requests.RunDecisions(held_back={f"B{number:03}": "waits" for number in range(30)})

    lines = decided.held_back_text("brains").splitlines()

    assert lines[:2] == ["brains held back: 30", "B000: waits"]
    assert lines[-1] == "and 10 more"
    assert len(lines) == 22
