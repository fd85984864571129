"""The definitions: what a person sees in the UI, and the traps that were fallen into before."""

import json
import os
import subprocess
import sys

import dagster as dg
import pandas as pd
import pytest
import yaml

from cytonet_pipeline.definitions import build_defs
from cytonet_pipeline.defs.contracts import CHECK_NAMES
from cytonet_pipeline.defs.dagster_internals import assets_of
from cytonet_pipeline.defs.walk import jobs_in_order
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import STAGES
from cytonet_pipeline.store import TABLES
from cytonet_pipeline_tests.conftest import PROJECT

ASSETS = {
    "reference_space": ("reference", None),
    "section_scans": ("histology", "brain"),
    "colin27_transforms": ("histology", "brain"),
    "patch_index": ("histology", "brain"),
    "training_set": ("training", "encoder"),
    "encoder": ("training", "encoder"),
    "patch_embeddings": ("evaluation", "encoder"),
    "linear_probe": ("evaluation", "encoder"),
    "metrics_table": ("evaluation", None),
    "umap_plots": ("evaluation", "encoder"),
    "area_maps": ("evaluation", "encoder"),
}
RAW = {"dataset", "reference_files"}


@pytest.fixture(scope="module")
def defs():
    return build_defs()


@pytest.fixture(scope="module")
def graph(defs):
    return defs.resolve_asset_graph()


def nodes(graph):
    return {key.to_user_string(): graph.get(key) for key in graph.get_all_asset_keys()}


def partition_set(definition):
    return {dg.DynamicPartitionsDefinition: "brain", dg.StaticPartitionsDefinition: "encoder"}.get(type(definition))


def test_the_assets_are_those_of_the_architecture(graph):
    found = {name: (node.group_name, partition_set(node.partitions_def)) for name, node in nodes(graph).items()}
    assert found == {**ASSETS, **dict.fromkeys(RAW, ("raw", None))}


def test_the_graph_begins_with_the_data_that_nothing_here_computes(graph):
    """A person sees in the graph where data comes in; no job, walk or backfill tries to make it."""
    found = nodes(graph)
    assert {name for name, node in found.items() if not node.parent_keys} == RAW
    assert {name for name, node in found.items() if not node.is_materializable} == RAW


def test_every_asset_has_a_description_owners_kinds_and_a_code_version(graph):
    for name, node in nodes(graph).items():
        assert node.description, name
        assert node.owners, name
        assert node.kinds, name
        assert node.code_version or name in RAW, name


def test_assets_that_are_tables_show_their_columns(graph):
    found = nodes(graph)
    tables = {
        "section_scans": "section_scans",
        "patch_index": "patch_index",
        "training_set": "training_sections",
        "linear_probe": "predictions",
        "umap_plots": "umap",
        "metrics_table": "metrics",
    }
    for asset, table in tables.items():
        columns = [record.data for record in found[asset].metadata[f"columns of {table}"].records]
        assert [column["column"] for column in columns] == [column.name for column in TABLES[table].columns]
        assert all(column["meaning"] for column in columns)


def test_nothing_heavy_is_imported_when_definitions_load():
    """Every step process and code server would pay for it."""
    code = (
        "import sys, json; from cytonet_pipeline.definitions import build_defs; build_defs();"
        "print(json.dumps([m for m in sys.argv[1:] if m in sys.modules]))"
    )
    heavy = ["torch", "torchvision", "umap", "matplotlib", "plotly", "nilearn", "sklearn", "SimpleITK", "pandas"]
    ran = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, cwd=PROJECT, check=True)
    assert json.loads(ran.stdout.splitlines()[-1]) == []


def test_brains_reach_encoders_by_a_mapping_that_is_named(graph):
    """Trap 3 in docs/dagster.md: without a name they map by identity, and the run succeeds with no input."""
    found = nodes(graph)
    crossing = []
    for name, node in found.items():
        for parent in node.parent_keys:
            above = found[parent.to_user_string()]
            if {partition_set(above.partitions_def), partition_set(node.partitions_def)} == {"brain", "encoder"}:
                crossing.append((parent.to_user_string(), name))
                assert isinstance(node.partition_mappings.get(parent), dg.AllPartitionMapping), (parent, name)
    assert ("patch_index", "training_set") in crossing


def test_ops_of_the_training_hand_over_nothing(defs):
    """Trap 11 in docs/dagster.md: a value between ops goes through pickles, and is gone when a run is killed."""
    encoder = defs.resolve_assets_def("encoder")
    for node in encoder.node_def.nodes:
        for definition in [*node.definition.input_defs, *node.definition.output_defs]:
            if node.name != "collect" or definition in node.definition.input_defs:
                if definition.name in {"settings"}:
                    continue
                assert definition.dagster_type.is_nothing, (node.name, definition.name)


def test_no_asset_takes_a_partitioned_one_as_an_argument(graph, defs):
    """Trap 13 in docs/dagster.md: it would get a dictionary, and fail when one partition is missing."""
    for name in ASSETS:
        definition = defs.resolve_assets_def(name)
        if name == "encoder":
            continue
        assert all(spec.dagster_type.is_nothing for spec in definition.op.input_defs), name


def test_jobs_cover_all_assets_and_none_spans_two_partition_sets(defs):
    """Trap 7 in docs/dagster.md: Dagster refuses such a job; `cytonet run` walks them instead."""
    walked = jobs_in_order(defs)
    assert [job.name for job in walked] == [
        "reference",
        "ingest_brain",
        "train_encoder",
        "evaluate_encoder",
        "metrics",
    ]
    assert sorted(asset for job in walked for asset in job.assets) == sorted(ASSETS)


def test_everything_that_acts_by_itself_is_stopped_until_a_person_starts_it(defs):
    """Trap 19 in docs/dagster.md: GPU time is spent when a person has decided to."""
    repository = defs.get_repository_def()
    for sensor in repository.sensor_defs:
        assert sensor.default_status == dg.DefaultSensorStatus.STOPPED, sensor.name
    for schedule in repository.schedule_defs:
        assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED, schedule.name
    assert {s.name for s in repository.sensor_defs} >= {"new_brains"}
    assert {s.name for s in repository.schedule_defs} == {"retrain"}


def test_no_training_starts_by_a_condition(graph):
    found = nodes(graph)
    assert found["encoder"].automation_condition is None
    assert found["training_set"].automation_condition is None
    assert found["linear_probe"].automation_condition is not None


def test_every_asset_has_a_check(graph):
    assert {key.asset_key.to_user_string() for key in graph.asset_check_keys} == set(ASSETS)


def test_every_table_that_a_stage_writes_has_its_contract_checked(graph):
    checks = {(key.asset_key.to_user_string(), key.name) for key in graph.asset_check_keys}
    for stage in STAGES.values():
        for name in stage.tables:
            assert checks & {(stage.name, f"{name}_contract"), (stage.name, CHECK_NAMES.get(name))}, (stage.name, name)


def test_what_a_deployment_gives_replaces_what_has_its_name():
    """Settings reach assets, checks, sensor, schedule and I/O manager; assets and jobs are found by name."""
    job = dg.define_asset_job("ingest_brain", dg.AssetSelection.assets("patch_index"))

    @dg.asset(name="metrics_table", group_name="evaluation", code_version="of the deployment")
    def other() -> None: ...

    @dg.asset(deps=["patch_index"])
    def added() -> None: ...

    changed = build_defs({"settings": "marker"}, assets=[other, added], jobs=[job])

    found = nodes(changed.resolve_asset_graph())
    assert set(found) == {*ASSETS, *RAW, "added"}
    assert found["metrics_table"].code_version == "of the deployment"
    assert assets_of(changed.resolve_job_def("ingest_brain")) == {"patch_index"}
    assert changed.get_repository_def().get_sensor_def("new_brains").job_name == "ingest_brain"
    assert build_defs().resolve_asset_graph().get(dg.AssetKey("metrics_table")).code_version != "of the deployment"


def test_settings_given_to_the_definitions_reach_all_that_takes_settings(tmp_path):
    """The I/O manager must not read another store than the assets."""
    settings = Settings.from_environment({"CYTONET_STORE": str(tmp_path / "store")})
    seen = []

    @dg.asset
    def written(settings: dg.ResourceParam[Settings]) -> pd.DataFrame:
        seen.append(settings)
        return pd.DataFrame({"x": [1, 2]})

    @dg.asset
    def read(written: pd.DataFrame) -> None:
        seen.append(len(written))

    @dg.asset_check(asset="read")
    def checked(settings: dg.ResourceParam[Settings]) -> dg.AssetCheckResult:
        seen.append(settings)
        return dg.AssetCheckResult(passed=True)

    own = dg.define_asset_job("own", dg.AssetSelection.assets("written", "read"))
    defs = dg.Definitions.merge(
        build_defs({"settings": settings}, assets=[written, read], jobs=[own]), dg.Definitions(asset_checks=[checked])
    )

    assert defs.resolve_job_def("own").execute_in_process().success

    assert seen == [settings, 2, settings]
    assert (tmp_path / "store" / "user" / "written.parquet").exists()


@pytest.mark.parametrize("command", [["dagster", "definitions", "validate"], ["dg", "check", "defs"]])
def test_both_tools_of_dagster_accept_the_project(command, tmp_path):
    """`dagster dev` can work where `validate` does not, and the other way round."""
    import os
    from pathlib import Path

    program = Path(sys.executable).parent / command[0]
    environment = {**os.environ, "DAGSTER_HOME": str(tmp_path)}
    ran = subprocess.run(
        [program, *command[1:]], cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_partitions_are_the_encoders_of_the_file_that_is_acted_on(tmp_path):
    """Of 32 partitions of a finished demo 26 were of other files: grey in the UI, and refused when they were picked."""
    for name in ("mine", "other"):
        entries = {f"{name}_random": {"method": "random", "working_pixel_um": 128, "steps": 0}}
        text = yaml.safe_dump({"dataset": {"density_per_mm3": 1, "held_out": "B20"}, "encoders": entries})
        (tmp_path / f"{name}.yaml").write_text(text)
    code = "from cytonet_pipeline.defs.partitions import encoders; print(encoders.get_partition_keys())"

    environment = {**os.environ, "CYTONET_EXPERIMENTS": str(tmp_path / "mine.yaml")}
    shown = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)

    assert shown.stdout.strip() == "['mine_random']"
