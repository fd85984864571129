"""The instance that the command line and the UI share, and what a run leaves in it."""

import shutil
import socket

import dagster as dg
import pytest
from typer.testing import CliRunner

from cytonet_pipeline.cli import app
from cytonet_pipeline.definitions import build_defs
from cytonet_pipeline.defs import instance as module
from cytonet_pipeline.defs.adopt import adopt_store
from cytonet_pipeline.defs.dagster_internals import set_pool_limit
from cytonet_pipeline.defs.walk import walk
from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.store import Store, read_table

pytestmark = pytest.mark.xdist_group("ran")
ENCODERS = ["tiny_cytonet", "tiny_scratch", "tiny_position"]


def test_without_a_setting_the_projects_own_folder_is_used_with_the_repositorys_settings(tmp_path, monkeypatch):
    """Unset, Dagster would forget everything on exit."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")

    home = module.dagster_home(tmp_path / "store")

    assert home == tmp_path / ".dagster"
    assert (home / "dagster.yaml").read_text() == "telemetry: {enabled: false}\n"


def test_a_home_that_is_no_folder_is_one_message(monkeypatch, tmp_path):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigurationError, match="no such folder"):
        module.dagster_home(tmp_path)


def test_ops_that_only_wait_have_a_limit_of_their_own(monkeypatch, tmp_path):
    """Trap 16 in docs/dagster.md: dagster.yaml has one default for all pools; a single limit is set on the instance."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with module.open_instance(tmp_path / "store") as opened:
        limits = {pool.name: pool.limit for pool in opened.event_log_storage.get_pool_limits()}
    assert limits["slurm_gpu"] == 8


@pytest.fixture
def in_memory(monkeypatch):
    """Opening an instance makes no database, which takes seconds."""
    monkeypatch.setattr(dg.DagsterInstance, "get", dg.DagsterInstance.ephemeral)


@pytest.mark.usefixtures("in_memory")
def test_without_a_setting_a_second_store_has_an_instance_of_its_own(tmp_path, monkeypatch):
    """A user who has run the demo goes on with brains of their own, in the same project."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    homes = {}
    for store in ("store", "elsewhere/mine", "store"):
        monkeypatch.delenv("DAGSTER_HOME", raising=False)
        assert module.instance_exists(tmp_path / store) == (store in homes)
        module.open_instance(tmp_path / store).dispose()
        homes[store] = module.dagster_home(tmp_path / store)

    assert homes == {"store": tmp_path / ".dagster", "elsewhere/mine": tmp_path / ".dagster-mine"}
    assert (homes["elsewhere/mine"] / "dagster.yaml").read_text() == "telemetry: {enabled: false}\n"
    monkeypatch.delenv("DAGSTER_HOME")
    with pytest.raises(ConfigurationError, match="belongs to the store"):
        module.dagster_home(tmp_path / "another/mine")


@pytest.mark.usefixtures("in_memory")
def test_a_second_store_under_one_home_is_refused_and_the_first_one_goes_on(monkeypatch, tmp_path):
    """Brains of one store stood as partitions of the other, and nothing said so."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    first, second = tmp_path / "first", tmp_path / "second"
    module.open_instance(first).dispose()
    (tmp_path / "link").symlink_to(first)

    with pytest.raises(ConfigurationError, match=f"belongs to the store {first}, and CYTONET_STORE is {second}"):
        module.open_instance(second)

    module.open_instance(tmp_path / "link").dispose()
    (tmp_path / module.STORE_NOTE).unlink()
    module.open_instance(second).dispose()
    with pytest.raises(ConfigurationError, match=f"rm {tmp_path / module.STORE_NOTE}"):
        module.open_instance(first)


@pytest.fixture(params=[module.TAGS_OF_PROCESS, "cytonet/"], ids=["now", "as_0_2_1_wrote_it"])
def waiting_run(request):
    """An instance with a run that holds the only place of its pool, in a process that may be gone."""

    @dg.op(pool="slurm_gpu")
    def waits(): ...

    @dg.job
    def job():
        waits()

    with dg.DagsterInstance.ephemeral() as opened:
        set_pool_limit(opened, "slurm_gpu", 1)
        prefix = request.param
        tags = {f"{prefix}host": socket.gethostname(), f"{prefix}pid": str(2**22 - 1), f"{prefix}born": "long ago"}
        run = opened.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED)
        assert opened.event_log_storage.claim_concurrency_slot("slurm_gpu", run.run_id, "waits").is_claimed
        yield opened, run


def test_a_run_whose_process_was_killed_is_failed_and_gives_its_place_back(waiting_run):
    """Nothing monitors a run that is executed in process: the next one would wait for its place for ever."""
    instance, run = waiting_run

    assert module.fail_orphaned_runs(instance) == [run.run_id]

    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE
    assert instance.event_log_storage.claim_concurrency_slot("slurm_gpu", "another", "waits").is_claimed
    assert module.fail_orphaned_runs(instance) == []


def test_a_run_whose_process_is_alive_is_left_alone(waiting_run):
    instance, run = waiting_run
    prefix = next(name for name in run.tags if name.endswith("pid")).removesuffix("pid")
    mine = {
        name.replace(module.TAGS_OF_PROCESS, prefix): value for name, value in module.tags_of_this_process().items()
    }
    instance.add_run_tags(run.run_id, mine)

    assert module.fail_orphaned_runs(instance) == []
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.STARTED


@pytest.fixture
def finished(ran, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(ran.home))
    with dg.DagsterInstance.get() as opened:
        yield opened


def latest(instance, asset, partition):
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[partition] if partition else None), limit=1
    ).records
    return records[0].asset_materialization


@pytest.mark.parametrize(
    ("asset", "partition"),
    [("section_scans", "B01"), ("patch_index", "B01"), ("training_set", "tiny_cytonet"), ("encoder", "tiny_cytonet")],
)
def test_results_carry_a_data_version_of_their_content(finished, asset, partition):
    """Trap 2 in docs/dagster.md: without it downstream gets the hash of the empty string, whatever has changed."""
    version = latest(finished, asset, partition).tags["dagster/data_version"]
    assert len(version) == 16


def test_what_an_encoder_saw_is_in_the_store_and_dagster_has_its_version(finished, ran):
    """Trap 1 in docs/dagster.md: the provenance that Dagster records names no section."""
    store = Store(ran.settings.store)
    version = latest(finished, "training_set", "tiny_cytonet").tags["dagster/data_version"]

    sections = read_table(store.training_set(version) / "sections.parquet", "training_sections")

    assert version == store.current_version("tiny_cytonet")
    seen = sections[sections["n_training_patches"] > 0]
    assert set(seen["brain"]) == {"B01", "B02"}
    assert seen[["digest", "transform_digest", "patches_digest"]].notna().all(axis=None)


def test_asset_pages_show_pictures_and_numbers(finished):
    shown = {
        ("section_scans", "B01"): ("contact sheet", "sections"),
        ("colin27_transforms", "B01"): ("sections over Colin-27", "area_agreement"),
        ("patch_index", "B01"): ("where the patches lie", "patches"),
        ("encoder", "tiny_cytonet"): ("training curves", "training patches"),
        ("umap_plots", "tiny_cytonet"): (None, None),
        ("metrics_table", None): ("macro F1", "encoders"),
    }
    for (asset, partition), (picture, number) in shown.items():
        metadata = latest(finished, asset, partition).metadata
        pictures = {
            n: m for n, m in metadata.items() if isinstance(m, dg.MarkdownMetadataValue) and "base64" in m.value
        }
        assert pictures, asset
        assert all(len(value.value) <= 200_000 for value in pictures.values()), asset
        assert picture is None or picture in pictures, (asset, list(metadata))
        assert number is None or isinstance(metadata[number].value, (int, float)), (asset, number)


def test_a_training_leaves_its_progress_in_the_log(finished):
    """Trap 10 in docs/dagster.md: metadata reported through Pipes inside a graph is dropped."""
    records = finished.fetch_observations(dg.AssetKey("encoder"), limit=50).records
    assert any("loss" in record.asset_observation.metadata for record in records)


def test_checks_are_recorded_for_their_partition(finished):
    summary = finished.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey("training_set"), "nothing_leaks"), limit=10
    )
    assert {record.partition for record in summary} >= {"tiny_cytonet", "tiny_scratch"}


@pytest.mark.long
def test_an_empty_database_is_told_what_the_store_holds(ran):
    """The store decides what is current; a lost database is no loss."""
    with dg.DagsterInstance.ephemeral() as empty:
        adopted = adopt_store(empty, ran.settings)
        again = adopt_store(empty, ran.settings)

        assert set(empty.get_dynamic_partitions("brain")) == {"B01", "B02", "B20"}
        assert "B01" in empty.get_materialized_partitions(dg.AssetKey("patch_index"))
        assert "tiny_cytonet" in empty.get_materialized_partitions(dg.AssetKey("linear_probe"))
        page = latest(empty, "umap_plots", "tiny_cytonet")
    assert any("base64" in str(value.value) for value in page.metadata.values()), "with its pictures"
    assert len(page.tags["dagster/data_version"]) == 16
    assert adopted == 1 + 3 * 3 + 3 * 6 + 1
    assert again == 0


@pytest.mark.long
def test_lineage_and_results_survive_the_loss_of_dagsters_database(ran, tmp_path, monkeypatch):
    """It is deleted; after `cytonet adopt` nothing is trained or computed again, and every question has its answer."""
    shutil.copytree(ran.settings.store, tmp_path / "store", ignore=shutil.ignore_patterns("checkpoints", "packed"))
    home = tmp_path / "dagster"
    shutil.copytree(ran.home, home)
    settings = ran.settings.model_copy(update={"store": tmp_path / "store"})
    for name, value in {**settings.environment(), "DAGSTER_HOME": str(home)}.items():
        monkeypatch.setenv(name, value)
    questions = (("encoder", "tiny_cytonet"), ("affected", "B01"), ("affected", "B20"), ("diff", *ENCODERS[:2]))
    asked = [CliRunner().invoke(app, ["lineage", *words, "--json"]).stdout for words in questions]
    written = {path: path.stat().st_mtime_ns for path in settings.store.rglob("*") if path.is_file()}
    for path in home.iterdir():
        if path.name != "dagster.yaml":
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    adopted = CliRunner().invoke(app, ["adopt"])

    assert adopted.exit_code == 0, adopted.output
    with dg.DagsterInstance.from_config(str(home)) as instance:
        done = walk(build_defs(), instance, settings, brain_names=["B01", "B02", "B20"], encoder_names=ENCODERS)
        runs = instance.get_runs_count()
    assert (done.done, done.failed, runs) == ([], {}, 0)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert [CliRunner().invoke(app, ["lineage", *words, "--json"]).stdout for words in questions] == asked
    assert all(len(answer) > 20 for answer in asked)


def test_tables_can_be_loaded_as_asset_values(ran, monkeypatch):
    for name, value in ran.settings.environment().items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("brain", ["B01"])
        index = build_defs().load_asset_value("patch_index", partition_key="B01", instance=instance)
    assert set(index["brain"]) == {"B01"}
    assert len(index) > 100
