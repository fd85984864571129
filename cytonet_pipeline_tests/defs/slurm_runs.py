"""Dagster runs of `train_encoder` whose training is a job of a real, throw-away Slurm."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import dagster as dg
import pytest
import yaml

from cytonet_pipeline.definitions import build_defs
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store
from cytonet_pipeline_tests.cluster.processes import until
from cytonet_pipeline_tests.cluster.slurm.slurm_cluster import SlurmCluster
from cytonet_pipeline_tests.conftest import PROJECT, TINY, settings_for

RANKS = Path(__file__).with_name("ranks.py")
STEPS = 24
BRAINS = ["B01", "B02", "B20"]
# Long enough for every step here on a busy machine; a test that waits longer has failed.
WAIT_S = 150.0
ONE_RANK = {"nodes": 1, "gpus_per_node": 1, "cpus_per_task": 1}


def run_job(settings, job, instance, partition=None, **options) -> dg.ExecuteInProcessResult:
    """Run a job of the code location in this process."""
    definition = build_defs({"settings": settings}).resolve_job_def(job)
    return definition.execute_in_process(instance=instance, partition_key=partition, raise_on_error=False, **options)


@pytest.fixture(scope="session")
def indexed(small_brains, tmp_path_factory) -> Path:
    """A store with the reference and all brains, and no encoder; tests copy it."""
    folder = tmp_path_factory.mktemp("indexed")
    settings = settings_for(small_brains, folder / "store")
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("brain", BRAINS)
        assert run_job(settings, "reference", instance).success
        for brain in BRAINS:
            assert run_job(settings, "ingest_brain", instance, brain).success
    return settings.store


class SlurmRuns:
    """A store of its own on the test's cluster, and what runs on it."""

    def __init__(self, cluster: SlurmCluster, brains: Path, indexed: Path, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self._indexed = indexed
        self.control = folder / "control"
        self.control.mkdir()
        shutil.copytree(indexed, folder / "store")
        self.experiments = folder / "experiments" / "tiny.yaml"
        self.experiments.parent.mkdir()
        self.write_experiments()
        self.profile = folder / "profile.yaml"
        self.write_profile()
        self.brains = brains
        self.home = folder / "dagster"
        self.home.mkdir()
        (self.home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        self.instance = dg.DagsterInstance.from_config(str(self.home))
        self.instance.add_dynamic_partitions("brain", BRAINS)

    def write_experiments(self, **block) -> None:
        """Two encoders of a few steps."""
        content = yaml.safe_load(TINY)
        # Few and large steps: enough for features that do not all point one way.
        small = {"steps": STEPS, "batch_size": 32, "checkpoint_every": 2, "watch_every": STEPS}
        small |= {"optimizer": {"learning_rate": 0.03, "warmup_steps": 0}, **block}
        for name in content["encoders"]:
            content["encoders"][name] |= small
        content["encoders"]["tiny_scratch"] |= {"method": "cytonet", "seed": 1}
        self.experiments.write_text(yaml.safe_dump(content, sort_keys=False))

    def write_profile(self, **keys) -> None:
        """Two nodes with two ranks each."""
        profile = {
            "nodes": 2,
            "gpus_per_node": 2,
            "cpus_per_task": 2,
            "walltime": "10:00",
            "signal_before_s": 60,
            "python": sys.executable,
            # The nodes run the code that is tested, wherever another copy is installed.
            "setup": [f"export PYTHONPATH={PROJECT}"],
            "launcher": [sys.executable, str(RANKS), str(self.control)],
            **keys,
        }
        self.profile.write_text(yaml.safe_dump({name: value for name, value in profile.items() if value is not None}))

    def alone(self, **keys) -> None:
        """One rank without torchrun, where several would show nothing more."""
        (self.control / "alone").touch()
        self.write_profile(**ONE_RANK, **keys)

    def brake(self, seconds: float = 3.0, name: str = "brake") -> None:
        """Make every step last so long."""
        (self.control / name).write_text(str(seconds))

    def release(self) -> None:
        """Let steps take the time that they take."""
        (self.control / "brake").unlink()

    def copy_of_store(self) -> Path:
        """The store as it was before any encoder."""
        return Path(shutil.copytree(self._indexed, self.folder / "other-store"))

    def settings(self, cluster: str = "slurm", store: Path | None = None) -> Settings:
        made = settings_for(self.brains, store or self.folder / "store")
        return made.model_copy(update={"experiments_file": self.experiments, "cluster": cluster})

    @property
    def environment(self) -> dict[str, str]:
        return {**self.cluster.environment, "CYTONET_CLUSTER_PROFILE": str(self.profile), "OMP_NUM_THREADS": "1"}

    def run(self, encoder: str = "tiny_cytonet", settings: Settings | None = None) -> "RunShown":
        """A run in this process."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            result = run_job(settings or self.settings(), "train_encoder", self.instance, encoder)
        return RunShown(self.instance, result.run_id)

    def spawn(self, encoder: str = "tiny_cytonet") -> "Spawned":
        """A run in a process of its own, that a test may kill."""
        return Spawned(self, encoder)

    def encoder_folder(self, encoder: str = "tiny_cytonet") -> Path:
        store = Store(self.folder / "store")
        return store.encoder(encoder, store.wanted_version(encoder) or "none")

    def attempts(self, encoder: str = "tiny_cytonet") -> list[dict]:
        """`job.json` of all attempts."""
        places = sorted((self.encoder_folder(encoder) / "job").glob("attempt-*"))
        return [json.loads((place / "job.json").read_text()) for place in places if (place / "job.json").exists()]

    def jobs(self) -> dict[str, str]:
        """All jobs that this cluster remembers, with their state."""
        listed = self.cluster.slurm("squeue", "-h", "--states=all", "-o", "%i %T").stdout
        return dict(line.split() for line in listed.splitlines())

    def wait_for_step(self, step: int, encoder: str = "tiny_cytonet") -> None:
        """Wait until the training has done that many steps."""

        def there() -> bool:
            with contextlib.suppress(OSError, ValueError, IndexError):
                checkpoints = self.encoder_folder(encoder) / "checkpoints"
                return any(int(path.stem.removeprefix("step-")) >= step for path in checkpoints.glob("step-*"))
            return False

        until(there, WAIT_S)

    def wait_for_job(self, encoder: str = "tiny_cytonet", phase: str = "RUNNING") -> str:
        """Wait until the encoder's job is in a phase; its id."""

        def found() -> bool:
            jobs = self.attempts(encoder)
            return bool(jobs) and self.jobs().get(jobs[-1].get("job_id", "")) == phase

        until(found, WAIT_S)
        return self.attempts(encoder)[-1]["job_id"]

    def close(self) -> None:
        self.cluster.slurm("scancel", "--user", str(os.getuid()))
        until(lambda: not self.cluster.slurm("squeue", "-h").stdout.strip(), 30)
        self.instance.dispose()


class RunShown:
    """What Dagster shows of a run."""

    def __init__(self, instance: dg.DagsterInstance, run_id: str) -> None:
        self.run = instance.get_run_by_id(run_id)
        self.events = list(instance.all_logs(run_id))
        self.status = self.run.status.value
        self.tags = self.run.tags

    @property
    def log(self) -> str:
        return "\n".join(entry.user_message for entry in self.events)

    @property
    def failure(self) -> str:
        """The message of the failed step."""
        failures = [
            e.dagster_event.step_failure_data
            for e in self.events
            if e.is_dagster_event and e.dagster_event.is_step_failure
        ]
        return "\n".join(
            str(f.user_failure_data.description if f.user_failure_data else f.error.message) for f in failures
        )

    @property
    def metadata(self) -> dict:
        """Metadata of the encoder's materialisation."""
        for entry in self.events:
            event = entry.dagster_event
            if event and event.is_step_materialization and event.asset_key == dg.AssetKey("encoder"):
                return {name: getattr(value, "value", value) for name, value in event.materialization.metadata.items()}
        return {}

    @property
    def facts(self) -> dict[str, str]:
        """What stands on the encoder's page by name, as text: entries, rows of the other figures, lines of lists."""
        shown = {}
        for name, value in self.metadata.items():
            records = getattr(value, "records", [])
            shown |= {row.data["figure"]: row.data["value"] for row in records if "figure" in row.data}
            lines = value.splitlines() if isinstance(value, str) else []
            shown |= dict(line[2:].split(": ", 1) for line in lines if line.startswith("* ") and ": " in line)
            shown[name] = str(value)
        return shown


_DRIVER = """
import sys
import dagster as dg
from cytonet_pipeline.definitions import build_defs
with dg.DagsterInstance.from_config(sys.argv[1]) as instance:
    job = build_defs().resolve_job_def("train_encoder")
    job.execute_in_process(instance=instance, partition_key=sys.argv[2], raise_on_error=False, run_id=sys.argv[3])
"""


class Spawned:
    """A run in a process of its own."""

    def __init__(self, runs: SlurmRuns, encoder: str) -> None:
        self.runs = runs
        self.run_id = str(uuid.uuid4())
        environment = {**os.environ, **runs.environment, **runs.settings().environment()}
        self.output = (runs.folder / f"run-{self.run_id[:8]}.log").open("w")
        command = [sys.executable, "-c", _DRIVER, str(runs.home), encoder, self.run_id]
        self.process = subprocess.Popen(command, env=environment, cwd=PROJECT, stdout=self.output, stderr=self.output)

    def kill(self) -> None:
        """What a power cut or the kernel does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def tags(self) -> dict[str, str]:
        run = self.runs.instance.get_run_by_id(self.run_id)
        return dict(run.tags) if run else {}

    def log(self) -> str:
        """The log of the run so far."""
        return "\n".join(entry.user_message for entry in self.runs.instance.all_logs(self.run_id))

    def shown(self) -> RunShown:
        self.process.wait(WAIT_S)
        return RunShown(self.runs.instance, self.run_id)
