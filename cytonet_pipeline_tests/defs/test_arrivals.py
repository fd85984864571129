"""New brains and training that would differ, on a real instance: nothing is requested twice, and nothing is lost."""

import shutil

import dagster as dg
import pytest

from cytonet_pipeline.definitions import build_defs
from cytonet_pipeline.defs.histology.sensors import new_brains
from cytonet_pipeline.defs.training.schedules import retrain
from cytonet_pipeline.stages.pending import brains_to_ingest, encoders_to_train
from cytonet_pipeline.store import Store
from cytonet_pipeline_tests.conftest import settings_for

# One worker builds the finished run that these tests look at.
pytestmark = pytest.mark.xdist_group("ran")


@pytest.fixture
def instance(tmp_path):
    with dg.instance_for_test(temp_dir=str(tmp_path)) as opened:
        yield opened


def fixed(settings):
    return dg.ResourceDefinition.hardcoded_resource(settings)


def tick(instance, settings):
    context = dg.build_sensor_context(instance=instance, resources={"settings": fixed(settings)})
    return new_brains(context)


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

    assert sorted(request.partition_key for request in result.run_requests) == ["B01", "B02", "B20"]
    assert sorted(result.dynamic_partitions_requests[0].partition_keys) == ["B01", "B02", "B20"]
    assert len({request.run_key for request in result.run_requests}) == 3


def test_a_tick_that_changes_nothing_asks_with_the_same_keys(instance, small_brains, tmp_path):
    """The run key keeps a tick that comes before the runs have ended from asking twice."""
    settings = settings_for(small_brains, tmp_path / "store")
    first = {request.run_key for request in tick(instance, settings).run_requests}
    second = {request.run_key for request in tick(instance, settings).run_requests}
    assert first == second


def test_a_brain_that_the_store_has_is_not_taken_in_again(instance, ran):
    assert isinstance(tick(instance, ran.settings), dg.SkipReason)
    assert brains_to_ingest(ran.settings) == {}


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
    assert isinstance(tick(instance, settings), dg.SkipReason)


def test_a_changed_section_asks_again_with_another_key(instance, small_brains, tmp_path):
    brains = copy_of(small_brains, tmp_path, "B02")
    settings = settings_for(brains, tmp_path / "store")
    before = tick(instance, settings).run_requests[0].run_key
    scan = next((brains / "brains" / "sub-B02" / "micr").glob("*.tif"))

    scan.touch()

    assert tick(instance, settings).run_requests[0].run_key != before


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

    assert isinstance(result, dg.SkipReason)
    assert "gone" in result.skip_message
    assert instance.get_dynamic_partitions("brain") == ["B01"]


def schedule_tick(instance, settings):
    context = dg.build_schedule_context(
        instance=instance, resources={"settings": fixed(settings)}, repository_def=build_defs().get_repository_def()
    )
    return retrain.evaluate_tick(context)


def test_the_schedule_trains_nothing_that_has_seen_all_it_would_see(instance, ran):
    assert encoders_to_train(ran.settings) == {}
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
    assert all(current not in request.run_key for request in requests)


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
