"""Training a stored version again from its record alone, in a folder of its own, to compare the weights.

The record is the version's folder: configuration, sections, patches, initial weights. Settings of today and results of
brains are not asked, only the scans. Nothing in the store is touched.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytonet_pipeline import progress
from cytonet_pipeline.errors import ConfigurationError, DataFault, TrainingError
from cytonet_pipeline.settings import TRAINING_CODE_VERSION, WITHOUT_WEIGHTS, Settings
from cytonet_pipeline.stages.stage import store_of
from cytonet_pipeline.store import faults_in, read_record, read_table

if TYPE_CHECKING:
    from cytonet_pipeline.learning.weights_difference import WeightsDifference

_READ_BY_TRAINING = ("config.json", "training_set.json", "sections.parquet", "patches.parquet")
_WEIGHTS = ("encoder.safetensors", "best.safetensors", "classifier.safetensors")
_MOST_NAMED = 5


@dataclass(frozen=True)
class Record:
    """What is stored of a version, and what of today differs from it.

    Attributes
    ----------
    folder : Path
        Of the stored version.
    missing : tuple of str
        What it takes to train again and is not there; while something is missing nothing can be trained.
    differing : tuple of str
        What of code, packages, machine or data is not as it was.
    ranks, threads : int
        Those of its last training process.
    """

    folder: Path
    missing: tuple[str, ...]
    differing: tuple[str, ...]
    ranks: int
    threads: int


def read_stored(settings: Settings, name: str) -> Record:
    """Read the record of `encoder` (the version in use) or `encoder@version`, and compare code and data with it.

    Raises
    ------
    StoreError
        The store has no such encoder or version.
    TrainingError
        It is not trained, or has no weights that could be compared.
    """
    from cytonet_pipeline.lineage import folder_of

    encoder, _, version = name.partition("@")
    folder = folder_of(encoder, store_of(settings), version or None)
    if not (folder / "encoder.json").exists():
        raise TrainingError(
            f"{name}: its training run has not finished.",
            looked_for=str(folder / "encoder.json"),
            to_fix=f"finish it first: cytonet run --encoders {encoder}",
        )
    record = read_record(folder / "encoder.json")
    if record.get("method") in WITHOUT_WEIGHTS:
        raise TrainingError(
            f"{name}: method {record['method']} has no weights.", to_fix="there is nothing to reproduce"
        )
    last = (record.get("runs") or [{}])[-1]
    data_missing, data_differing = _data(settings, folder)
    return Record(
        folder,
        (*_missing_files(folder), *data_missing),
        (*_code(record, read_record(folder / "training_set.json")), *_machine(last, record), *data_differing),
        int(last.get("ranks", 1)),
        int(last.get("threads", 0)),
    )


def train_again(settings: Settings, stored: Record, scratch: Path) -> list["WeightsDifference"]:
    """Train from a stored record in a folder outside the store, and compare the weights.

    Parameters
    ----------
    scratch : Path
        A folder that is empty or not there.

    Raises
    ------
    ConfigurationError
        `scratch` lies in the store or is not empty.
    TrainingError
        Something is missing, or the training run failed.
    """
    from cytonet_pipeline.cluster.local import LocalLauncher
    from cytonet_pipeline.learning.weights_difference import compare_weights

    if stored.missing:
        raise TrainingError(
            f"{stored.folder.parent.name}@{stored.folder.name} cannot be trained again: {'; '.join(stored.missing)}.",
            looked_for=str(stored.folder),
            to_fix="bring back what is missing",
        )
    _require_free(scratch, settings)
    folder = scratch / "encoders" / stored.folder.parent.name / stored.folder.name
    folder.mkdir(parents=True)
    for path in (*(stored.folder / name for name in _READ_BY_TRAINING), *stored.folder.glob("init.*")):
        shutil.copyfile(path, folder / path.name)
    launcher = LocalLauncher(settings.data, processes=stored.ranks, threads=stored.threads or None)
    steps = read_record(folder / "config.json")["block"].get("steps")
    with progress.task(f"training {stored.folder.parent.name} again", total=steps or None) as line:
        launcher.train(folder, on_progress=lambda status: line.to(status.get("step", 0), str(status.get("state", ""))))
    named = [name for name in _WEIGHTS if (stored.folder / name).exists()]
    return [compare_weights(stored.folder / name, folder / name) for name in named]


def _missing_files(folder: Path) -> Iterator[str]:
    config = read_record(folder / "config.json") if (folder / "config.json").exists() else {}
    needed = [*_READ_BY_TRAINING, "encoder.safetensors"]
    yield from (f"{name} of the record is not there" for name in needed if not (folder / name).exists())
    if config.get("init_from") and not list(folder.glob("init.*")):
        yield "the weights that it continues from are not there"
    faulty = [fault for fault in faults_in(folder, digests=True) if not fault.of_drawing]
    yield from (f"{fault.path.name} of the record is damaged" for fault in faulty if fault.path.exists())


def _data(settings: Settings, folder: Path) -> tuple[list[str], list[str]]:
    """Return which scans are missing and which have changed, of the sections that training reads."""
    from cytonet_pipeline.dataset import split_pick
    from cytonet_pipeline.histology.formats.registry import open_reader

    if not (folder / "sections.parquet").exists():
        return [], []
    sections = read_table(folder / "sections.parquet", "training_sections")
    read = sections[(sections["n_training_patches"] > 0) | (sections["role"] == "validation")]
    missing, changed = [], []
    for row in progress.track(read.to_dict("records"), "comparing scans"):
        name, (path, pick) = f"{row['brain']}/{row['sample']}", split_pick(row["path"])
        try:
            if open_reader(settings.data / path, pick).digest() != row["digest"]:
                changed.append(name)
        except (DataFault, OSError):
            missing.append(name)
    return _named("scans that cannot be read", missing), _named("scans that are not as they were", changed)


def _code(record: dict[str, Any], training_set: dict[str, Any]) -> Iterator[str]:
    from cytonet_pipeline.learning.training.provenance import environment

    then, now = record.get("environment", {}), environment()
    if training_set.get("code_version") != TRAINING_CODE_VERSION:
        yield f"code version of training: {training_set.get('code_version')} then, {TRAINING_CODE_VERSION} now"
    commits = [(state.get("git") or {}).get("commit") for state in (then, now)]
    if commits[0] != commits[1]:
        yield f"commit: {commits[0] or 'not known'} then, {commits[1] or 'not known'} now"
    yield from (
        f"{where} has uncommitted changes" for where, s in (("the code then", then), ("the code now", now)) if _dirty(s)
    )
    packages = [state.get("packages", {}) for state in (then, now)]
    for name in sorted(packages[0].keys() | packages[1].keys()):
        versions = [found.get(name, "none") for found in packages]
        if versions[0] != versions[1]:
            yield f"package {name}: {versions[0]} then, {versions[1]} now"
    for key in ("python", "platform"):
        if then.get(key) != now.get(key):
            yield f"{key}: {then.get(key, 'not known')} then, {now.get(key)} now"


def _dirty(environment: dict[str, Any]) -> bool:
    return bool((environment.get("git") or {}).get("changed"))


def _machine(last: dict[str, Any], record: dict[str, Any]) -> Iterator[str]:
    if last.get("device", "cpu") != "cpu":
        yield f"device: {last['device']} then; on a GPU the sums of one run and the next differ in their last bits"
    kinds = {(run.get("device"), run.get("ranks"), run.get("threads")) for run in record.get("runs", [])}
    if len(kinds) > 1:
        yield f"it was trained in {len(kinds)} parts on different devices, ranks or threads"
    if not last.get("threads"):
        yield "threads: not recorded then"


def _named(what: str, sections: list[str]) -> list[str]:
    if not sections:
        return []
    more = f" and {len(sections) - _MOST_NAMED} more" if len(sections) > _MOST_NAMED else ""
    return [f"{what}: {', '.join(sections[:_MOST_NAMED])}{more}"]


def _require_free(scratch: Path, settings: Settings) -> None:
    inside = scratch.absolute().resolve().is_relative_to(settings.store.absolute().resolve())
    if inside or (scratch.exists() and any(scratch.iterdir())):
        raise ConfigurationError(
            f"{scratch}: {'lies in the store' if inside else 'is not empty'}.", to_fix="name a new folder elsewhere"
        )
