"""New brains and training that would differ, on a real instance: nothing is requested twice, and nothing is lost."""

import shutil
import time

import dagster as dg
import pytest

from cytonet_pipeline.definitions import build_defs
from cytonet_pipeline.defs import run_requests
from cytonet_pipeline.defs.histology.sensors import new_brains
from cytonet_pipeline.defs.run_requests import INPUTS_TAG
from cytonet_pipeline.defs.training.schedules import retrain
from cytonet_pipeline.stages import ENCODER, PATCH_INDEX, SECTION_SCANS, TRAINING_SET
from cytonet_pipeline.stages.gate import weigh
from cytonet_pipeline.stages.pending import Pending, brains_to_ingest, encoders_to_train
from cytonet_pipeline.store import Store, read_record, write_record
from cytonet_pipeline_tests.conftest import restamp, settings_for

# One worker builds the finished run that these tests look at.
pytestmark = pytest.mark.xdist_group("ran")


@pytest.fixture
def instance(tmp_path):
    with dg.instance_for_test(temp_dir=str(tmp_path)) as opened:
        yield opened


def fixed(settings):
    return dg.ResourceDefinition.hardcoded_resource(settings)


def tick(instance, settings, cursor=None):
    context = dg.build_sensor_context(instance=instance, resources={"settings": fixed(settings)}, cursor=cursor)
    return new_brains(context)


def reason_of(result):
    """Why a tick requested nothing."""
    if isinstance(result, dg.SkipReason):
        return result.skip_message
    assert not result.run_requests
    return result.skip_reason.skip_message


def copy_of(small_brains, tmp_path, *brains):
    """A data set of some of the brains; scans are linked, not copied."""
    target = tmp_path / "phantom"
    shutil.copytree(small_brains, target, copy_function=lambda a, b: shutil.copy2(a, b), dirs_exist_ok=True)
    participants = target / "brains" / "participants.tsv"
    lines = participants.read_text().splitlines()
    kept = [lines[0], *(line for line in lines[1:] if line.split("\t")[0].removeprefix("sub-") in brains)]
    participants.write_text("\n".join(kept) + "\n")
    for folder in target.glob("brains/**/sub-*"):
        if folder.is_dir() and folder.name.removeprefix("sub-") not in brains:
            shutil.rmtree(folder)
    return target


def test_a_released_brain_gets_a_partition_and_a_run(instance, small_brains, tmp_path):
    settings = settings_for(small_brains, tmp_path / "store")

    result = tick(instance, settings)

    # Not all at once: an old data set of a hundred brains must not be a stampede.
    assert sorted(request.partition_key for request in result.run_requests) == ["B01", "B02"]
    assert sorted(result.dynamic_partitions_requests[0].partition_keys) == ["B01", "B02", "B20"]
    # Dagster remembers run keys for ever: a brain that failed under one would never come.
    assert {request.run_key for request in result.run_requests} == {None}


def test_a_brain_that_the_store_has_is_not_taken_in_again(instance, ran):
    assert reason_of(tick(instance, ran.settings)).startswith("the store has every brain")
    assert brains_to_ingest(ran.settings) == Pending()


def test_the_run_that_the_sensor_asks_for_brings_the_brain_in(instance, small_brains, tmp_path):
    brains = copy_of(small_brains, tmp_path, "B02")
    settings = settings_for(brains, tmp_path / "store")
    defs = build_defs({"settings": settings})
    defs.resolve_job_def("reference").execute_in_process(instance=instance)
    requests = tick(instance, settings)
    instance.add_dynamic_partitions("brain", requests.dynamic_partitions_requests[0].partition_keys)

    for request in requests.run_requests:
        job = defs.resolve_job_def("ingest_brain")
        assert job.execute_in_process(instance=instance, partition_key=request.partition_key).success

    assert Store(settings.store).indexed_brains() == ["B02"]
    assert reason_of(tick(instance, settings)).startswith("the store has every brain")


def test_a_tick_in_the_middle_of_a_run_leaves_the_brain_to_it(instance, small_brains, tmp_path, monkeypatch):
    """What a brain's stages are made from contains results of the run itself, and changes while it goes on."""
    settings = settings_for(copy_of(small_brains, tmp_path, "B02"), tmp_path / "store")
    defs = build_defs({"settings": settings})
    defs.resolve_job_def("reference").execute_in_process(instance=instance)
    instance.add_dynamic_partitions("brain", ["B02"])
    before, ticks = brains_to_ingest(settings).inputs, []
    index = PATCH_INDEX.run

    def tick_and_index(settings, brain, **options):
        ticks.append((tick(instance, settings), brains_to_ingest(settings).inputs))
        index(settings, brain, **options)

    monkeypatch.setattr(PATCH_INDEX, "run", tick_and_index)
    ran = defs.resolve_job_def("ingest_brain").execute_in_process(instance=instance, partition_key="B02")

    ((held_back, during),) = ticks
    assert reason_of(held_back).startswith("brains held back: 1\nB02: run " + ran.run_id[:8] + " is started")
    assert before == during == {"B02": instance.get_run_by_id(ran.run_id).tags[INPUTS_TAG]}


@pytest.mark.long
def test_a_brain_whose_run_failed_comes_in_once_the_cause_is_removed(instance, small_brains, tmp_path, monkeypatch):
    """A disk was full and has room again: nothing about the brain has changed, and it must come all the same."""
    settings = settings_for(copy_of(small_brains, tmp_path, "B02"), tmp_path / "store")
    defs = build_defs({"settings": settings})
    defs.resolve_job_def("reference").execute_in_process(instance=instance)
    instance.add_dynamic_partitions("brain", ["B02"])
    job = defs.resolve_job_def("ingest_brain")

    def follow_request(result):
        (request,) = result.run_requests
        return job.execute_in_process(
            instance=instance, partition_key=request.partition_key, tags=request.tags, raise_on_error=False
        )

    with monkeypatch.context() as full:
        full.setattr(PATCH_INDEX, "run", lambda *_, **__: (_ for _ in ()).throw(OSError("No space left on device")))
        assert not follow_request(tick(instance, settings)).success
        assert "attempt 1, failed on" in reason_of(tick(instance, settings))
    monkeypatch.setattr(run_requests.time, "time", lambda now=time.time: now() + run_requests.FIRST_PAUSE_S)
    again = tick(instance, settings)

    assert again.run_requests[0].tags["cytonet/attempt"] == "2"
    assert follow_request(again).success
    assert reason_of(tick(instance, settings)).startswith("the store has every brain")


def test_a_changed_section_is_requested_at_once(instance, small_brains, tmp_path):
    brains = copy_of(small_brains, tmp_path, "B02")
    settings = settings_for(brains, tmp_path / "store")
    before = tick(instance, settings).run_requests[0].tags[INPUTS_TAG]
    failed = instance.create_run_for_job(
        build_defs().resolve_job_def("ingest_brain"), tags={"dagster/partition": "B02", INPUTS_TAG: before}
    )
    instance.report_run_failed(failed)
    assert "attempt 1" in reason_of(tick(instance, settings))

    next((brains / "brains" / "sub-B02" / "micr").glob("*.tif")).touch()

    (request,) = tick(instance, settings).run_requests
    assert request.tags[INPUTS_TAG] != before
    assert request.tags["cytonet/attempt"] == "1"


def test_a_name_that_no_folder_can_have_stops_no_other_brain(instance, small_brains, tmp_path):
    brains = copy_of(small_brains, tmp_path, "B02")
    participants = brains / "brains" / "participants.tsv"
    header, row = participants.read_text().splitlines()
    participants.write_text("\n".join([header, row, row.replace("B02", "B" * 300)]) + "\n")
    settings = settings_for(brains, tmp_path / "store")

    result = tick(instance, settings)

    assert [request.partition_key for request in result.run_requests] == ["B02"]
    assert result.dynamic_partitions_requests[0].partition_keys == ["B02"]


def test_a_brain_that_cannot_be_examined_is_named_and_stops_no_other(instance, small_brains, tmp_path, monkeypatch):
    settings = settings_for(copy_of(small_brains, tmp_path, "B01", "B02"), tmp_path / "store")
    inputs = SECTION_SCANS.inputs

    def break_for_one(settings, brain):
        if brain == "B01":
            raise ValueError("a bug that only this brain meets")
        return inputs(settings, brain)

    monkeypatch.setattr(SECTION_SCANS, "inputs", break_for_one)

    assert [request.partition_key for request in tick(instance, settings).run_requests] == ["B02"]
    assert brains_to_ingest(settings).faults == {"B01": "ValueError: a bug that only this brain meets"}


def test_a_tick_opens_no_scan(instance, small_brains, tmp_path):
    """Trap 17 in docs/dagster.md: a tick is cut off after 60 s, and a data set may have a thousand sections."""
    brains = copy_of(small_brains, tmp_path, "B02")
    for scan in (brains / "brains" / "sub-B02" / "micr").glob("*.tif"):
        scan.write_bytes(b"not a scan")

    result = tick(instance, settings_for(brains, tmp_path / "store"))

    assert [request.partition_key for request in result.run_requests] == ["B02"]


def test_a_data_set_that_cannot_be_read_is_a_reason_to_skip_not_an_empty_one(instance, tmp_path):
    """Trap 12 in docs/dagster.md: a mount that is gone for an hour must not delete a partition."""
    instance.add_dynamic_partitions("brain", ["B01"])

    result = tick(instance, settings_for(tmp_path / "gone", tmp_path / "store"))

    assert "gone" in reason_of(result)
    assert instance.get_dynamic_partitions("brain") == ["B01"]


def schedule_tick(instance, settings):
    context = dg.build_schedule_context(
        instance=instance, resources={"settings": fixed(settings)}, repository_def=build_defs().get_repository_def()
    )
    return retrain.evaluate_tick(context)


def test_the_schedule_trains_nothing_that_has_seen_all_it_would_see(instance, ran):
    assert encoders_to_train(ran.settings) == Pending()
    ticked = schedule_tick(instance, ran.settings)
    assert ticked.run_requests == []
    assert "exactly what it would see" in ticked.skip_message


def test_the_schedule_trains_the_encoders_whose_training_set_would_differ(instance, ran, tmp_path):
    """A brain less, and every encoder that saw it would see something else."""
    store = tmp_path / "store"
    shutil.copytree(ran.settings.store, store)
    shutil.rmtree(store / "patch_index" / "brain=B01")
    settings = ran.settings.model_copy(update={"store": store})

    requests = schedule_tick(instance, settings).run_requests

    assert {request.partition_key for request in requests} == {"tiny_cytonet", "tiny_scratch", "tiny_position"}
    current = Store(store).current_version("tiny_cytonet")
    assert all(request.tags[INPUTS_TAG] != current for request in requests)
    # Within one tick Dagster tells requests apart by their keys, and takes two without any for the same one.
    assert {request.run_key for request in requests} == {request.partition_key for request in requests}


def with_retraining(settings, **block):
    """Settings whose experiments file has another `retrain:` block."""
    changed = settings.model_copy()
    retrain_block = settings.experiments.retrain.model_copy(update=block)
    changed.__dict__["experiments"] = settings.experiments.model_copy(update={"retrain": retrain_block})
    return changed


@pytest.fixture
def without_b01(ran, tmp_path):
    """The finished store after a brain has gone: every encoder that saw it would see something else."""
    store = tmp_path / "store"
    shutil.copytree(ran.settings.store, store)
    shutil.rmtree(store / "patch_index" / "brain=B01")
    return ran.settings.model_copy(update={"store": store})


def test_a_request_to_train_again_says_what_has_changed_and_what_is_affected(instance, without_b01):
    requests = {request.partition_key: request for request in schedule_tick(instance, without_b01).run_requests}

    changed = requests["tiny_cytonet"].tags["cytonet/changed"]
    assert changed.startswith("brains -B01; sections +0 -6, ")
    assert "training patches" in changed
    change = encoders_to_train(without_b01).changes["tiny_cytonet"]
    assert change.of_data_alone
    assert change.share > 0.3
    version = Store(without_b01.store).current_version("tiny_cytonet")
    assert any(line.startswith(f"B01: weights tiny_cytonet@{version}, learned from ") for line in change.affected)
    assert any(line.startswith("B01: table of results") for line in change.affected)
    assert not any("tiny_scratch" in line for line in change.affected), "each run names its own encoder's results"


def test_a_change_that_is_too_small_trains_nothing_and_says_so(instance, without_b01):
    """One new section must not cost 64 GPUs for a day."""
    ticked = schedule_tick(instance, with_retraining(without_b01, smallest_change=1.0))

    assert "tiny_cytonet: too little has changed: " in ticked.skip_message
    assert "cytonet run --encoders tiny_cytonet" in ticked.skip_message


def test_no_more_encoders_are_trained_per_tick_than_the_budget_allows(instance, without_b01):
    requests = schedule_tick(instance, with_retraining(without_b01, at_most=1)).run_requests

    assert [request.partition_key for request in requests] == ["tiny_cytonet"]


def test_a_version_that_scores_worse_is_held_back_until_a_person_decides(without_b01):
    settings, encoder = with_retraining(without_b01, gate=0.05), "tiny_cytonet"
    store = Store(settings.store)
    old = store.current_version(encoder)
    TRAINING_SET.run(settings, encoder)
    new = TRAINING_SET.decided_version(settings, encoder)
    trained_as(store, encoder, old, 0.6)
    shutil.copytree(store.encoder(encoder, old), store.encoder(encoder, new))

    trained_as(store, encoder, new, 0.54)
    ENCODER.collect(settings, encoder)
    assert store.current_version(encoder) == old
    assert f"version {new} is held back by the gate, {old} stays in use" in encoders_to_train(settings).faults[encoder]
    assert any("0.54 after 0.6, worse by more than 0.05" in r for r in ENCODER.summary(settings, encoder).reasons)
    assert ENCODER.is_current(settings, encoder), "it is trained, and need not be trained again"
    assert ENCODER.version_in_use(settings, encoder) == old

    ENCODER.collect(settings, encoder, despite_gate=True)
    assert store.current_version(encoder) == new
    assert encoder not in encoders_to_train(settings).faults


@pytest.mark.parametrize(("score", "gate"), [(0.56, 0.05), (0.1, None), (None, 0.05)])
def test_a_version_goes_into_use_within_the_gate_without_one_and_without_scores(tmp_path, ran, caplog, score, gate):
    settings, encoder = with_retraining(ran.settings.model_copy(update={"store": tmp_path}), gate=gate), "tiny_cytonet"
    store = Store(tmp_path)
    for version, reached in (("old", 0.6), ("new", score)):
        figures = {} if reached is None else {"knn_accuracy": reached}
        write_record(store.encoder(encoder, version) / "encoder.json", {"figures": figures})
    store.point_current(encoder, "old")

    assert weigh(settings, encoder, "new") is None
    # A gate that could not weigh is no gate that has found the version good.
    assert ("the gate is open, version new has no k-NN accuracy" in caplog.text) == (score is None)


def trained_as(store, encoder, version, score):
    """Let a stored version have another score on validation sections."""
    path = store.encoder(encoder, version) / "encoder.json"
    record = read_record(path)
    write_record(path, {**record, "figures": {**record["figures"], "knn_accuracy": score}})
    restamp(path.parent)


def test_the_schedule_leaves_an_encoder_to_a_run_that_trains_it(instance, ran, tmp_path):
    """A training run may last longer than the time between two ticks."""
    store = tmp_path / "store"
    shutil.copytree(ran.settings.store, store)
    shutil.rmtree(store / "patch_index" / "brain=B01")
    settings = ran.settings.model_copy(update={"store": store})
    job = build_defs().resolve_job_def("train_encoder")
    running = instance.create_run_for_job(
        job, tags={"dagster/partition": "tiny_cytonet"}, status=dg.DagsterRunStatus.STARTED
    )

    requests = schedule_tick(instance, settings).run_requests

    assert {request.partition_key for request in requests} == {"tiny_scratch", "tiny_position"}
    for name in ("tiny_scratch", "tiny_position"):
        instance.create_run_for_job(job, tags={"dagster/partition": name}, status=dg.DagsterRunStatus.STARTING)
    ticked = schedule_tick(instance, settings)
    assert ticked.run_requests == []
    assert f"tiny_cytonet: run {running.run_id[:8]} is started" in ticked.skip_message
    assert "tiny_scratch: run" in ticked.skip_message


def test_the_schedule_names_an_encoder_that_has_nothing_to_train_on(instance, ran, tmp_path):
    settings = ran.settings.model_copy(update={"store": tmp_path / "empty"})

    ticked = schedule_tick(instance, settings)

    assert ticked.run_requests == []
    assert "encoders held back: 3\ntiny_cytonet: " in ticked.skip_message


def test_the_schedules_clock_is_named(instance):
    assert retrain.execution_timezone == "UTC"
    assert "time zone UTC (CYTONET_TIMEZONE)" in retrain.description
    assert retrain.cron_schedule == "0 3 * * 1", "of an experiments file that does not name another"
    assert "Cron expression 0 3 * * 1 (`retrain: cron`)" in retrain.description


def test_a_brain_without_an_index_keeps_no_encoder_from_its_training_set(instance, ran, tmp_path):
    """Trap 6 in docs/dagster.md: a new brain must not stop the encoders; the training set decides who takes part."""
    shutil.copytree(ran.settings.store, tmp_path / "store")
    settings = ran.settings.model_copy(update={"store": tmp_path / "store"})
    instance.add_dynamic_partitions("brain", ["B01", "B02", "B20", "B99"])
    job = build_defs({"settings": settings}).resolve_job_def("train_encoder")

    result = job.execute_in_process(
        instance=instance, partition_key="tiny_cytonet", asset_selection=[dg.AssetKey("training_set")]
    )

    assert result.success
    assert Store(settings.store).wanted_version("tiny_cytonet") == Store(ran.settings.store).wanted_version(
        "tiny_cytonet"
    )
