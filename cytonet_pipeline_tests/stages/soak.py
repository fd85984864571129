"""Kill every stage at random moments, again and again, and compare the store with that of an undisturbed run.

    make soak
    python -m cytonet_pipeline_tests.stages.soak --kills 40

The moments come from a seed that is printed; the same seed draws the same shares of each stage's time again.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import STAGES, stage_of
from cytonet_pipeline.store import Store, digest_array, digest_file, digest_of, faults_in, read_table
from cytonet_pipeline.store.examination import examine
from cytonet_pipeline.store.paths import result_folders
from cytonet_pipeline.store.stamps import files_of_result, is_drawing, read_stamp
from cytonet_pipeline_tests.conftest import SMALL_PHANTOM, settings_for

PHANTOM = {**SMALL_PHANTOM, "brains": ("B01", "B20")}
ENCODERS = ("tiny_cytonet",)
# What a run took, and when: not the same twice.
_OF_ONE_RUN = ("seconds", "created", "samples_per_second", "data_wait_share")
# Forks of a process that has imported torch, each the leader of a session.
_PROCESSES = multiprocessing.get_context("forkserver")
_PRELOADED = [
    *("cytonet_pipeline.stages", "torch._dynamo", "sklearn.linear_model", "umap", "matplotlib.pyplot"),
    *("nilearn.surface", "nibabel", "SimpleITK", "pandera.pandas", "pyarrow.dataset"),
]


@dataclass(frozen=True)
class Step:
    """A stage and the partition that it computes."""

    asset: str
    partition: str | None

    def __str__(self) -> str:
        return f"{self.asset}[{self.partition}]" if self.partition else self.asset


def steps() -> list[Step]:
    """Return every stage with its partitions, in the order in which data passes them."""
    partitions = {"brain": PHANTOM["brains"], "encoder": ENCODERS, None: (None,)}
    reached: list[Step] = []
    for partition_set in (None, "brain", "encoder"):
        of_set = [stage.name for stage in STAGES.values() if stage.partition_set == partition_set]
        reached += [Step(name, partition) for partition in partitions[partition_set] for name in of_set]
    table = Step("metrics_table", None)
    return [step for step in reached if step != table] + [table]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--kills", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=int(time.time()))
    given = arguments.parse_args()
    draw = random.Random(given.seed)
    _PROCESSES.set_forkserver_preload(_PRELOADED)
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        from cytonet_pipeline.phantom import write_phantom

        write_phantom(Path(temporary) / "small", **PHANTOM)
        whole = settings_for(Path(temporary) / "small", Path(temporary) / "whole")
        seconds = {step: undisturbed(step, whole) for step in steps()}
        print(f"undisturbed: {', '.join(f'{step} {lasts:.0f} s' for step, lasts in seconds.items())}", flush=True)
        kills: Counter[str] = Counter()
        while kills.total() < given.kills:
            settings = whole.model_copy(update={"store": Path(temporary) / f"killed{kills.total()}"})
            for step, lasts_s in seconds.items():
                kills[step.asset] += killed_until_done(step, settings, lasts_s, draw)
                print(f"{step}: {kills[step.asset]} kills of {step.asset} so far", flush=True)
            require_same(whole, settings)
            print(f"same results; kills so far: {kills.total()}, {dict(kills)}", flush=True)


def undisturbed(step: Step, settings: Settings) -> float:
    """Run a step to its end; return how long it took (s)."""
    started = time.monotonic()
    process = start(step, settings)
    process.join()
    if process.exitcode:
        sys.exit(f"{step}: exit code {process.exitcode} without a kill")
    return time.monotonic() - started


def killed_until_done(step: Step, settings: Settings, lasts_s: float, draw: random.Random) -> int:
    """Start a step until it ends by itself, killing it after random times; return how often that was."""
    kills = 0
    while True:
        before = complete_files(settings)
        process = start(step, settings)
        # Each attempt may live longer than the one before, so that the step always comes to its end.
        process.join(timeout=draw.uniform(0, lasts_s * (1 + kills)))
        killed = process.is_alive()
        if killed:
            kill_group(process.pid)
            process.join()
            # A training run has a session of its own: it dies as well, or is joined by the next attempt.
            if draw.random() < 0.5:
                kill_training_run(settings)
        require_kept(before, settings, step)
        require_undamaged(settings, step)
        if not killed and process.exitcode:
            sys.exit(f"{step}, after {kills} kills: exit code {process.exitcode}")
        if not killed:
            return kills
        kills += 1


def start(step: Step, settings: Settings) -> "multiprocessing.process.BaseProcess":
    """Start a step as the leader of a process group."""
    process = _PROCESSES.Process(target=run_step, args=(step, settings))
    process.start()
    return process


def run_step(step: Step, settings: Settings) -> None:
    """Bring one result up to date, in a session of its own."""
    os.setsid()
    stage_of(step.asset).run(settings, step.partition)


def kill_group(leader: int) -> None:
    """Kill a step with its children, or the step alone if it has not become the leader of a group yet."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(leader, signal.SIGKILL)


def kill_training_run(settings: Settings) -> None:
    """Kill the training run of this machine that the record of an encoder's last attempt names, if it is alive."""
    from cytonet_pipeline.cluster.local import LocalLauncher

    for folder in settings.store.glob("encoders/*/*/"):
        if attempt := LocalLauncher(settings.data).running(folder):
            os.killpg(attempt.pid, signal.SIGKILL)
            attempt.poll()


def complete_files(settings: Settings) -> dict[Path, int]:
    """Return when each file of a complete result, or of a complete part of one, was written (ns); no pictures."""
    return {
        path: path.stat().st_mtime_ns
        for folder in result_folders(Store(settings.store))
        if read_stamp(folder) is not None and not faults_in(folder)
        for path in files_of_result(folder)
        if not is_drawing(path.name)
    }


def require_kept(before: dict[Path, int], settings: Settings, step: Step) -> None:
    """End the program if something that was complete has been computed again, or is gone."""
    now = complete_files(settings)
    if again := [path for path, written in before.items() if now.get(path) != written]:
        sys.exit(f"{step}: computed again, or gone:\n" + "\n".join(map(str, again)))


def require_undamaged(settings: Settings, step: Step) -> None:
    """End the program if the store holds a result that says it is complete and is not."""
    faults = examine(Store(settings.store)).faults if settings.store.exists() else ()
    if damaged := [fault for fault in faults if "was not finished" not in fault]:
        sys.exit(f"{step}: damaged:\n" + "\n".join(damaged))


def require_same(whole: Settings, killed: Settings) -> None:
    """End the program if the two stores hold other results."""
    one, other = (results(settings) for settings in (whole, killed))
    if differing := [name for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)]:
        sys.exit("other results than without kills:\n" + "\n".join(differing))


def results(settings: Settings) -> dict[str, object]:
    """Return the inputs of each result and what its files say, by path below the store."""
    found: dict[str, object] = {}
    for folder in result_folders(Store(settings.store)):
        name = folder.relative_to(settings.store)
        found[str(name)] = read_stamp(folder)
        # The record of a training run tells its processes and times; the weights beside it are compared.
        files = (path for path in files_of_result(folder) if path.name != "encoder.json" and not is_drawing(path.name))
        found |= {str(name / path.name): content_of(path) for path in files}
    return found


def content_of(path: Path) -> str:
    """Return the digest of a file, without what only tells of one run, and of the order in which parts are written."""
    if path.suffix == ".json":
        return digest_of(without_times(json.loads(path.read_text(encoding="utf-8"))))
    if path.suffix == ".safetensors":
        with safe_open(path, "np") as tensors:
            names = tensors.keys()
            return digest_of([tensors.metadata(), {name: digest_array(tensors.get_tensor(name)) for name in names}])
    if path.name == "history.parquet":
        return digest_of(read_table(path, "history").drop(columns=list(_OF_ONE_RUN[2:])).to_csv())
    return digest_file(path)


def without_times(record: object) -> object:
    """Return a record without the times of the run that wrote it."""
    if isinstance(record, dict):
        return {key: without_times(value) for key, value in record.items() if key not in _OF_ONE_RUN}
    return [without_times(value) for value in record] if isinstance(record, list) else record


if __name__ == "__main__":
    main()
