"""The built wheel does what the checkout does, in an empty folder away from it."""

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from cytonet_pipeline_tests.conftest import PROJECT, TINY

pytestmark = pytest.mark.xdist_group("package")

# What a wheel is built from.
SOURCES = (
    "pyproject.toml", "README.md", "LICENSE", "cytonet_pipeline", "experiments", "deploy", "benchmarks", "dagster.yaml",
    "dg.toml", "workspace.yaml",
)  # fmt: skip
SHIPPED = ("experiments", "deploy", "benchmarks", "dagster.yaml", "dg.toml", "workspace.yaml")


@dataclass
class Installed:
    """A wheel, and the folder that it is installed in, away from the checkout."""

    wheel: Path
    site: Path

    def run(self, *command: str, cwd: Path, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run Python with a command's arguments in `cwd`, where only the wheel and its dependencies are found."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("CYTONET_", "DAGSTER_"))}
        ran = subprocess.run(
            [sys.executable, *command],
            cwd=cwd,
            env={**kept, "PYTHONPATH": str(self.site), **environment},
            capture_output=True,
            text=True,
            timeout=540,
        )
        assert not check or ran.returncode == 0, f"{command}: exit {ran.returncode}\n{ran.stdout}\n{ran.stderr}"
        return ran

    def cytonet(self, *arguments: str, cwd: Path, check: bool = True, **environment: str) -> str:
        """Run a command as a user of the wheel does; return what it prints."""
        return self.run("-m", "cytonet_pipeline.cli", *arguments, cwd=cwd, check=check, **environment).stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Installed:
    folder = tmp_path_factory.mktemp("package")
    sources = folder / "sources"
    for name in SOURCES:
        given, copy = PROJECT / name, sources / name
        copy.parent.mkdir(exist_ok=True)
        if given.is_dir():
            shutil.copytree(given, copy, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(given, copy)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-build-isolation", "--no-deps", "-w", str(folder), str(sources)], check=True, cwd=folder
    )
    shutil.rmtree(sources)
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)], check=True)
    return Installed(wheel, site)


@pytest.fixture
def empty(tmp_path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def test_the_wheel_holds_the_files_of_a_project_and_no_tests(installed):
    with zipfile.ZipFile(installed.wheel) as wheel:
        names = set(wheel.namelist())
        for top in SHIPPED:
            files = [PROJECT / top] if (PROJECT / top).is_file() else sorted((PROJECT / top).rglob("*"))
            for path in files:
                if path.is_file() and "__pycache__" not in path.parts:
                    shipped = f"cytonet_pipeline/project_files/{path.relative_to(PROJECT)}"
                    assert wheel.read(shipped) == path.read_bytes(), shipped
    modules = {str(path.relative_to(PROJECT)) for path in (PROJECT / "cytonet_pipeline").rglob("*.py")}
    assert modules <= names
    packages = {name.split("/")[0] for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert packages == {"cytonet_pipeline"}


def test_commands_work_in_an_empty_folder(installed, empty):
    where = installed.run("-c", "import cytonet_pipeline; print(cytonet_pipeline.__file__)", cwd=empty).stdout
    assert Path(where.strip()).is_relative_to(installed.site)

    assert "\n  demo " in installed.cytonet("--help", cwd=empty)
    assert "\ntrain " in installed.cytonet("bench", cwd=empty)
    examined = installed.cytonet("doctor", cwd=empty, check=False)
    assert str(installed.site / "cytonet_pipeline" / "project_files" / "experiments" / "demo.yaml") in examined
    assert "demo_cytonet" in examined
    assert str(empty / "demo" / "tpl-MNIColin27") in examined
    assert not any(empty.iterdir())


def test_dagster_finds_the_definitions_and_an_instance_in_the_folder(installed, empty):
    code = """
from cytonet_pipeline.definitions import defs
from cytonet_pipeline.defs.instance import dagster_home
from cytonet_pipeline.defs.partitions import encoders
from cytonet_pipeline.settings import Settings
home = dagster_home(Settings.from_environment().store)
print(len(defs().get_repository_def().assets_defs_by_key), *encoders.get_partition_keys(), home, sep="\\n")
"""

    assets, *encoders, home = installed.run("-c", code, cwd=empty).stdout.split()

    assert int(assets) > 10
    assert "demo_cytonet" in encoders
    assert Path(home) == empty / ".dagster"
    assert (empty / ".dagster" / "dagster.yaml").read_text() == (PROJECT / "dagster.yaml").read_text()


def test_a_default_cluster_profile_comes_with_the_package(installed, empty):
    code = "from cytonet_pipeline.cluster.slurm.profile import read_profile; print(read_profile().sends('encoder'))"
    assert installed.run("-c", code, cwd=empty).stdout.strip() == "True"


@pytest.mark.long
def test_the_pipeline_runs_from_the_wheel(installed, empty, small_brains):
    """Every asset of three small brains and three small encoders, as `cytonet demo` runs them."""
    (empty / "tiny.yaml").write_text(TINY)
    settings = {
        "CYTONET_DATA": str(small_brains / "brains"),
        "CYTONET_REFERENCE": str(small_brains / "tpl-MNIColin27"),
        "CYTONET_EXPERIMENTS": "tiny.yaml",
    }

    printed = installed.cytonet("run", cwd=empty, **settings)

    assert "0 failed" in printed
    assert (empty / "store" / "metrics" / "metrics.parquet").exists()
    assert (empty / ".dagster").is_dir()
