"""The definitions: what a person sees in the UI, and the traps that were fallen into before."""

import json
import subprocess
import sys

import dagster as dg
import pytest

from cytonet_pipeline.definitions import build_defs
from cytonet_pipeline.defs.walk import jobs_in_order
from cytonet_pipeline.settings import PROJECT
from cytonet_pipeline.store import TABLES

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
    assert found == ASSETS


def test_every_asset_says_what_it_is_and_whose(graph):
    for name, node in nodes(graph).items():
        assert node.description, name
        assert node.owners, name
        assert node.kinds, name
        assert node.code_version, name


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
        schema = found[asset].metadata["dagster/column_schema"].schema
        assert [column.name for column in schema.columns] == [column.name for column in TABLES[table].columns]
        assert all(column.description for column in schema.columns)


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
    """Trap 3: unnamed, a dynamic set maps to a static one by identity, and the run succeeds with no input."""
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
    """Trap 11: a value between ops goes through pickles, and is gone when a run is killed."""
    encoder = defs.resolve_assets_def("encoder")
    for node in encoder.node_def.nodes:
        for definition in [*node.definition.input_defs, *node.definition.output_defs]:
            if node.name != "collect" or definition in node.definition.input_defs:
                if definition.name in {"settings"}:
                    continue
                assert definition.dagster_type.is_nothing, (node.name, definition.name)


def test_no_asset_takes_a_partitioned_one_as_an_argument(graph, defs):
    """Trap 13: it would get a dictionary, and fail when one partition is missing."""
    for name in ASSETS:
        definition = defs.resolve_assets_def(name)
        if name == "encoder":
            continue
        assert all(spec.dagster_type.is_nothing for spec in definition.op.input_defs), name


def test_jobs_cover_all_assets_and_none_spans_two_partition_sets(defs):
    """Trap 7: Dagster refuses such a job; `cytonet run` walks them instead."""
    walked = jobs_in_order(defs)
    assert [job.name for job in walked] == [
        "reference",
        "ingest_brain",
        "train_encoder",
        "evaluate_encoder",
        "metrics",
    ]
    assert sorted(asset for job in walked for asset in job.assets) == sorted(ASSETS)


def test_everything_that_acts_by_itself_is_stopped_until_told_otherwise(defs):
    """Trap 19: GPU time is spent when a person has said so."""
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


def test_every_step_that_can_fail_a_person_has_a_check(graph):
    checked = {key.asset_key.to_user_string() for key in graph.asset_check_keys}
    assert checked == set(ASSETS) - {"patch_embeddings", "umap_plots", "area_maps"}


def test_an_override_takes_the_place_of_a_resource():
    marker = object()
    overridden = build_defs({"settings": dg.ResourceDefinition.hardcoded_resource(marker)})
    assert overridden.resources["settings"].resource_fn is not build_defs().resources["settings"].resource_fn


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
