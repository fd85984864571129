"""A running `cytonet ui` for tests: on a copy of a finished store and its Dagster instance."""

import contextlib
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

from cytonet_pipeline.defs.instance import STORE_NOTE
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store
from cytonet_pipeline_tests.conftest import PROJECT, environment_for

START_S = 120

# A brain that the copied store has lost, for a test to make again.
MISSING = "B02"

GRAPH = """{ assetNodes { assetKey { path } groupName description kinds owners { ... on TeamAssetOwner { team } }
  isPartitioned dependencyKeys { path } jobNames } }"""


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


def finished_project(request) -> tuple[Settings, Path]:
    """Where a finished store and its instance lie: `CYTONET_FINISHED`, a folder of `make demo`, or the small pipeline.

    Pictures of documents are made from the demo; tests need no more than the small one.
    """
    folder = os.environ.get("CYTONET_FINISHED")
    if not folder:
        ran = request.getfixturevalue("ran")
        return ran.settings, ran.home
    project = Path(folder).resolve()
    settings = Settings(
        data=project / "demo/brains",
        reference=project / "demo/tpl-MNIColin27",
        store=project / "store",
        experiments_file=PROJECT / "experiments/demo.yaml",
    )
    return settings, project / ".dagster"


@pytest.fixture(scope="session")
def server(request, tmp_path_factory):
    """A UI on a copy of a finished store, in which one brain is missing. One for all tests of a worker."""
    finished, instance = finished_project(request)
    folder = tmp_path_factory.mktemp("ui")
    home = folder / "dagster"
    shutil.copytree(instance, home, ignore=shutil.ignore_patterns(STORE_NOTE, "dagster.yaml"))
    shutil.copytree(finished.store, folder / "store", ignore=shutil.ignore_patterns("checkpoints", "packed"))
    settings = finished.model_copy(update={"store": folder / "store"})
    shutil.rmtree(Store(settings.store).section_scans(MISSING))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = Server(settings, home, port)
    try:
        started.wait()
        yield started
    finally:
        left = started.stop()
    assert not left, "SIGTERM ends the web server, the daemon and the code server"
