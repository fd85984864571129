"""What `deploy/` ships for a group's server: the instance works on a real PostgreSQL, the units name real things."""

import configparser
import getpass
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import dagster as dg
import pytest
import yaml

from cytonet_pipeline_tests.cluster.processes import free_ports, until
from cytonet_pipeline_tests.conftest import PROJECT

DEPLOY = PROJECT / "deploy"
BIN = Path(sys.executable).parent


def _postgres() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@pytest.fixture
def database():
    """URL of an empty database on a PostgreSQL of its own."""
    pytest.importorskip("dagster_postgres", reason="dagster-postgres is not installed")
    programs = _postgres()
    if programs is None:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    if os.getuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("PostgreSQL does not run as root, and there is no setpriv to become somebody else")
    # Its user must get through all folders on the way.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    port = free_ports(1)[0]
    become = []
    if os.getuid() == 0:
        shutil.chown(folder, "postgres")
        become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    user = "postgres" if become else getpass.getuser()

    def run(name: str, *options: str) -> None:
        command = [*become, str(programs / name), "-D", str(folder / "db"), *options]
        # Output to a file: the server would keep a pipe open.
        with (folder / "out.txt").open("ab") as out:
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/", timeout=60)

    run("initdb", "--auth=trust", f"--username={user}", "--no-sync")
    run("pg_ctl", "start", "-w", "-o", f"-p {port} -h 127.0.0.1 -k {folder} -F")
    try:
        yield f"postgresql+psycopg2://{user}@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "stop", "-m", "immediate")
        until(lambda: not (folder / "db" / "postmaster.pid").exists(), 20)
        shutil.rmtree(folder)


@dg.op(pool="slurm_gpu")
def _waits() -> None:
    pass


@dg.job
def _a_job():
    _waits()


def test_the_instance_keeps_runs_and_pool_limits_in_postgresql(database, tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    shutil.copyfile(DEPLOY / "dagster.yaml", home / "dagster.yaml")
    variables = {
        "DAGSTER_HOME": str(home),
        "DAGSTER_POSTGRES_URL": database,
        "DAGSTER_COMPUTE_LOGS": str(tmp_path / "logs"),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    # As `deploy/README.md` says, and the daemon's unit does.
    command = [str(BIN / "dagster"), "instance", "concurrency", "set", "slurm_gpu", "8"]
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout
    with dg.DagsterInstance.get() as instance:
        assert "Postgres" in type(instance.event_log_storage).__name__
        assert instance.event_log_storage.get_pool_limits()[0].limit == 8
        assert _a_job.execute_in_process(instance=instance).success
        assert instance.get_runs_count() == 1
    # Nothing of it lies in files beside.
    assert list(home.rglob("*.db")) == []


@pytest.mark.parametrize("unit", sorted(DEPLOY.glob("*.service")), ids=lambda unit: unit.stem)
def test_units_start_what_the_installation_has(unit):
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str
    parsed.read(unit)
    program, *words = parsed["Service"]["ExecStart"].split()

    assert (BIN / Path(program).name).exists()
    helped = subprocess.run(
        [str(BIN / Path(program).name), *[word for word in words[:2] if word[0] not in "-/"], "--help"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    for option in (word for word in words if word.startswith("-")):
        assert option in helped.stdout, f"{option} of {unit.name}"
    for path in (word for word in words if word.startswith("/opt/cytonet/deploy/")):
        assert (DEPLOY / Path(path).name).exists()


def test_code_server_and_workspace_name_the_same_place():
    unit = (DEPLOY / "cytonet-code.service").read_text()
    location = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())["load_from"][0]["grpc_server"]

    assert f"-h {location['host']} -p {location['port']} " in unit
    assert f"--location-name {location['location_name']}" in unit
