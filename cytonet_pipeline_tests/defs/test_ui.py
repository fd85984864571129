"""The UI, started for real: its asset graph, a materialisation launched through it, and its page in a browser."""

import contextlib
import inspect
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from cytonet_pipeline.cli.ui import ui
from cytonet_pipeline.store import Store, Verdict
from cytonet_pipeline_tests.cluster.processes import until
from cytonet_pipeline_tests.conftest import PROJECT, environment_for, settings_for
from cytonet_pipeline_tests.defs.test_definitions import ASSETS, RAW

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("ui")]

START_S = 120

GRAPH = """{ assetNodes { assetKey { path } groupName description kinds owners { ... on TeamAssetOwner { team } }
  isPartitioned dependencyKeys { path } jobNames } }"""

LAUNCH = """mutation Launch($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on InvalidSubsetError { message } ... on RunConfigValidationInvalid { errors { message } } } }"""

STATUS = """query Run($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"""

DAEMONS = "{ instance { daemonHealth { allDaemonStatuses { daemonType healthy } } } }"

LATEST = """{ assetNodes(assetKeys: [{path: ["reference_space"]}]) {
  assetMaterializations(limit: 1) { metadataEntries { label __typename ... on MarkdownMetadataEntry { mdStr }
  ... on IntMetadataEntry { intValue } } } } }"""


class Server:
    """A running `cytonet ui`."""

    def __init__(self, settings, home, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.settings = settings
        self.home = f"DAGSTER_HOME={home}".encode()
        environment = environment_for(settings, home)
        command = [sys.executable, "-m", "cytonet_pipeline.cli", "ui", "--port", str(port)]
        self.log = (home / "ui.log").open("w+")
        # A shell's `&` makes what it starts ignore SIGINT, these tests among it; after SIGTERM the code server lingers.
        self.process = subprocess.Popen(
            command,
            env=environment,
            cwd=PROJECT,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def ask(self, query: str, **variables):
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            content = json.load(answer)
        assert "errors" not in content, content
        return content["data"]

    def wait(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.output()
            try:
                if self.ask(GRAPH)["assetNodes"]:
                    return
            except OSError:
                time.sleep(0.5)
        raise AssertionError(f"no UI within {START_S} s\n{self.output()}")

    def output(self) -> str:
        self.log.flush()
        self.log.seek(0)
        return self.log.read()

    def stop(self) -> list[str]:
        """End it as a service manager does; return the command lines of what is left."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.log.close()
        return self.left_over()

    def left_over(self) -> list[str]:
        """List the processes that have its instance in their environment or arguments."""
        mine = []
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self.home in (place / "environ").read_bytes() and place.name != str(os.getpid()):
                    mine.append((place / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        return [line for line in mine if line]


@pytest.fixture(scope="module")
def server(small_brains, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ui")
    home = folder / "dagster"
    home.mkdir()
    shutil.copyfile(PROJECT / "dagster.yaml", home / "dagster.yaml")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = Server(settings_for(small_brains, folder / "store"), home, port)
    try:
        started.wait()
        yield started
    finally:
        left = started.stop()
    assert not left, "SIGTERM ends the web server, the daemon and the code server"


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


def test_the_page_of_the_asset_graph_draws_in_a_browser(server, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    picture = tmp_path / "page.png"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1600,1000", "--virtual-time-budget=20000"]

    page = subprocess.run(
        [browser, *flags, "--dump-dom", f"--screenshot={picture}", f"{server.url}/asset-groups"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "HOME": str(tmp_path)},
    )

    assert all(f">{group}<" in page.stdout for group, _ in ASSETS.values()), page.stderr[-2000:]
    assert picture.stat().st_size > 20_000
