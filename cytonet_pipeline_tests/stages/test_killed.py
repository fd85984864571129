"""A run that is killed at its last renames: nothing half-written counts, and nothing complete is computed again."""

import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

from cytonet_pipeline.cluster.local import LocalLauncher
from cytonet_pipeline.stages import (
    COLIN27_TRANSFORMS,
    ENCODER,
    LINEAR_PROBE,
    METRICS_TABLE,
    PATCH_EMBEDDINGS,
    PATCH_INDEX,
    TRAINING_SET,
)
from cytonet_pipeline.store import Store, remove_stamp, stamp_path
from cytonet_pipeline_tests.stages.soak import complete_files, results

# The finished store is built once.
pytestmark = pytest.mark.xdist_group("ran")

TRAINED, CONTROL = "tiny_cytonet", "tiny_position"


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


@contextmanager
def killed_at(target, monkeypatch):
    """End what runs when it would rename something to `target`; nothing is tidied up after that."""
    rename, remove, died = Path.replace, shutil.rmtree, []

    def replace(self, to):
        if Path(to) == target or (
            target.name == to.name and to.parent.name.startswith(f".writing-{target.parent.name}")
        ):
            died.append(to)
            raise Killed
        return rename(self, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        patch.setattr(shutil, "rmtree", lambda *a, **k: None if died else remove(*a, **k))
        with pytest.raises(Killed):
            yield


@pytest.fixture(scope="module")
def finished(ran, tmp_path_factory):
    """Settings with a copy of the finished store; each test leaves it finished."""
    store = tmp_path_factory.mktemp("killed") / "store"
    shutil.copytree(ran.settings.store, store)
    return ran.settings.model_copy(update={"store": store})


def folder(stage, settings, partition):
    return stage.folder(settings, partition)


def stamp(stage, settings, partition):
    return stamp_path(stage.folder(settings, partition))


def stamp_of_last_part(stage, settings, partition):
    return stamp_path(sorted(stage.folder(settings, partition).glob("*/"))[-1])


def decision(stage, settings, partition):
    return settings.store / "training_sets" / f"{partition}.json"


def current(stage, settings, partition):
    return settings.store / "encoders" / partition / "current.json"


@pytest.mark.parametrize(
    ("stage", "partition", "at"),
    [
        (TRAINING_SET, TRAINED, decision),
        (ENCODER, TRAINED, current),
        (PATCH_EMBEDDINGS, CONTROL, stamp_of_last_part),
        (LINEAR_PROBE, CONTROL, stamp),
        pytest.param(ENCODER, TRAINED, stamp, marks=pytest.mark.long),
        pytest.param(COLIN27_TRANSFORMS, "B01", folder, marks=pytest.mark.long),
        pytest.param(PATCH_INDEX, "B01", stamp, marks=pytest.mark.long),
        pytest.param(METRICS_TABLE, None, folder, marks=pytest.mark.long),
    ],
    ids=lambda value: getattr(value, "name", None) or getattr(value, "__name__", None),
)
def test_a_stage_that_is_killed_at_a_rename_is_made_again_and_nothing_else(finished, stage, partition, at, monkeypatch):
    monkeypatch.setattr(LocalLauncher, "train", lambda *a, **k: pytest.fail("trained again"))
    whole = results(finished)
    target = at(stage, finished, partition)
    if at is decision:
        Store(finished.store).point_wanted(partition, "0" * 16)
    else:
        remove_stamp(stage.folder(finished, partition))
    if at is stamp_of_last_part:
        remove_stamp(target.parent)
    if at is current:
        target.unlink()
    kept = complete_files(finished)

    with killed_at(target, monkeypatch):
        stage.run(finished, partition)

    assert not stage.is_current(finished, partition)
    assert kept.items() <= complete_files(finished).items()
    kept = complete_files(finished)
    stage.run(finished, partition)
    assert stage.is_current(finished, partition)
    assert results(finished) == whole
    assert kept.items() <= complete_files(finished).items()
