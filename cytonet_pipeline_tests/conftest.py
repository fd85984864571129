"""What every test may use: a small experiments file, small synthetic brains, and a pipeline that has run on them.

The encoders are a static partition set that is read when definitions load, so the experiments file is named here,
before anything of `defs` is imported.
"""

import os

# Before numpy and torch are imported: workers side by side whose threads wait for one another spin on the same cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cytonet_pipeline.settings import Settings

TINY = """
dataset: {patch_um: 4096, density_per_mm3: 0.02, held_out: B20, gap_mm: 1.0}
encoders:
  tiny_cytonet: &tiny
    method: cytonet
    working_pixel_um: 256
    steps: 80
    batch_size: 64
    checkpoint_every: 10
    watch_every: 40
    loss: {length_mm: 12.0}
    optimizer: {warmup_steps: 5}
  tiny_scratch: {<<: *tiny, method: scratch}
  tiny_position: {<<: *tiny, method: position, steps: 0}
evaluation:
  epochs: [5]
  labels_per_area: [10]
  draws: 2
  logistic_c: [0.1]
  bootstrap: 50
  umap_every: 10
  map_spacing_mm: 6.0
"""

_experiments = Path(tempfile.mkdtemp(prefix="cytonet-experiments-")) / "tiny.yaml"
_experiments.write_text(TINY)
os.environ["CYTONET_EXPERIMENTS"] = str(_experiments)
# Tests measure what the program does, not what this machine is set to.
for name in ("CYTONET_DATA", "CYTONET_REFERENCE", "CYTONET_STORE", "CYTONET_CLUSTER", "DAGSTER_HOME"):
    os.environ.pop(name, None)
os.environ["COLUMNS"] = "160"

SMALL_PHANTOM = {"brains": ("B01", "B02", "B20"), "sections": 6, "seed": 1, "pixel_um": 128.0}

PROJECT = Path(__file__).resolve().parent.parent
CYTONET = [sys.executable, "-m", "cytonet_pipeline.cli"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put groups first, that on Slurm before the others: a long group that begins last leaves a worker idle."""

    def place(item: pytest.Item) -> int:
        group = item.get_closest_marker("xdist_group")
        return 2 if group is None else int(group.args != ("slurm",))

    items.sort(key=place)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of licensed test data, where this machine has it."""
    folder = os.environ.get("CYTONET_TEST_DATA")
    if not folder:
        pytest.skip("CYTONET_TEST_DATA is not set: no licensed test data on this machine")
    return Path(folder)


@pytest.fixture(scope="session")
def small_brains(tmp_path_factory) -> Path:
    """Three synthetic brains of six sections: `brains/` and `tpl-MNIColin27/`. Never written to by a test."""
    from cytonet_pipeline.phantom import write_phantom
    from cytonet_pipeline.store import lock

    shared = session_folder(tmp_path_factory)
    with lock(shared / "phantom.lock", "writing synthetic brains", wait_s=300):
        write_phantom(shared / "small", **SMALL_PHANTOM)
    return shared / "small"


def session_folder(tmp_path_factory) -> Path:
    """A folder that all workers of one session share: the one above a worker's own."""
    mine = tmp_path_factory.getbasetemp()
    return mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine


def settings_for(brains: Path, store: Path) -> Settings:
    """Settings for a folder as `cytonet phantom` writes it."""
    return Settings(
        data=brains / "brains",
        reference=brains / "tpl-MNIColin27",
        store=store,
        experiments_file=_experiments,
    )


def restamp(folder: Path) -> None:
    """Let the stamp of a result name the files as a test has changed them: without it they count as damaged."""
    from cytonet_pipeline.store import read_stamp, write_stamp

    inputs = read_stamp(folder)
    assert inputs is not None, folder
    write_stamp(folder, inputs)


def environment_for(settings: Settings, home: Path) -> dict[str, str]:
    """Environment of a command of its own process."""
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(PROJECT / "dagster.yaml", home / "dagster.yaml")
    return {**os.environ, **settings.environment(), "DAGSTER_HOME": str(home)}


def cytonet(*arguments: str, settings: Settings, home: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does."""
    ran = subprocess.run(
        [*CYTONET, *arguments],
        env=environment_for(settings, home),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=540,
    )
    if check and ran.returncode:
        raise AssertionError(f"cytonet {' '.join(arguments)}: exit {ran.returncode}\n{ran.stdout}\n{ran.stderr}")
    return ran


@pytest.fixture(scope="session")
def ran(small_brains, tmp_path_factory) -> "Ran":
    """A pipeline that `cytonet run` has brought up on the small brains. Tests read it; none changes it."""
    from cytonet_pipeline.store import lock, write_text

    folder = session_folder(tmp_path_factory) / "ran"
    settings = settings_for(small_brains, folder / "store")
    with lock(folder.parent / "ran.lock", "running the pipeline", wait_s=540):
        if not (folder / "output.txt").exists():
            output = cytonet("run", settings=settings, home=folder / "dagster")
            write_text(folder / "output.txt", output.stdout)
    return Ran(settings, folder / "dagster", (folder / "output.txt").read_text(encoding="utf-8"))


class Ran:
    """Where a finished run lies."""

    def __init__(self, settings: Settings, home: Path, output: str) -> None:
        self.settings = settings
        self.home = home
        self.output = output
