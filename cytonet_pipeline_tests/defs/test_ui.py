"""The UI, started for real: its asset graph, its daemon, and a materialisation launched through its interface."""

import inspect
import time

import pytest

from cytonet_pipeline.cli.ui import ui
from cytonet_pipeline.store import Store, Verdict
from cytonet_pipeline_tests.cluster.processes import until
from cytonet_pipeline_tests.defs.test_definitions import ASSETS, RAW
from cytonet_pipeline_tests.defs.ui_server import GRAPH

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("ui")]

LAUNCH = """mutation Launch($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on InvalidSubsetError { message } ... on RunConfigValidationInvalid { errors { message } } } }"""

STATUS = """query Run($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"""

DAEMONS = "{ instance { daemonHealth { allDaemonStatuses { daemonType healthy } } } }"

LATEST = """{ assetNodes(assetKeys: [{path: ["reference_space"]}]) {
  assetMaterializations(limit: 1) { metadataEntries { label __typename ... on MarkdownMetadataEntry { mdStr }
  ... on IntMetadataEntry { intValue } } } } }"""


def test_the_asset_graph_shows_groups_descriptions_kinds_and_owners(server):
    found = {node["assetKey"]["path"][0]: node for node in server.ask(GRAPH)["assetNodes"]}

    assert {name: node["groupName"] for name, node in found.items()} == {
        **{name: group for name, (group, _) in ASSETS.items()},
        **dict.fromkeys(RAW, "raw"),
    }
    assert all(node["description"] and node["kinds"] and node["owners"] for node in found.values())
    above = {key["path"][0] for key in found["training_set"]["dependencyKeys"]}
    assert above == {"section_scans", "patch_index"}


def test_the_daemon_that_backfills_need_runs_beside_the_web_server(server):
    """Trap 17 in docs/dagster.md: "Materialize all" over partitions waits for ever without it."""
    until(lambda: "BACKFILL" in healthy_daemons(server), 60)


def healthy_daemons(server) -> set[str]:
    statuses = server.ask(DAEMONS)["instance"]["daemonHealth"]["allDaemonStatuses"]
    return {status["daemonType"] for status in statuses if status["healthy"]}


def test_the_web_server_without_login_listens_on_this_machine_only():
    """Trap 19 in docs/dagster.md: anyone who reaches the port can start runs."""
    assert inspect.signature(ui).parameters["host"].default == "127.0.0.1"


def test_a_materialisation_launched_in_the_ui_writes_the_store_and_shows_its_picture(server):
    params = {
        "selector": {
            "repositoryLocationName": "cytonet_pipeline",
            "repositoryName": "__repository__",
            "pipelineName": "reference",
            "assetSelection": [{"path": ["reference_space"]}],
        },
        "mode": "default",
        "runConfigData": {},
    }
    launched = server.ask(LAUNCH, params=params)["launchPipelineExecution"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run_id = launched["run"]["runId"]

    deadline = time.monotonic() + 180
    while (status := server.ask(STATUS, id=run_id)["runOrError"]["status"]) not in {"SUCCESS", "FAILURE", "CANCELED"}:
        assert time.monotonic() < deadline, status
        time.sleep(0.5)

    assert status == "SUCCESS", server.output()
    assert Verdict.read(Store(server.settings.store).reference_space()).ok
    entries = server.ask(LATEST)["assetNodes"][0]["assetMaterializations"][0]["metadataEntries"]
    by_name = {entry["label"]: entry for entry in entries}
    assert "data:image/png;base64" in by_name["reference"]["mdStr"]
    assert len(by_name["reference"]["mdStr"]) < 300_000
    assert by_name["areas"]["intValue"] > 20
