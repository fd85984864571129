"""`cytonet gc` lists what nobody needs, and deletes nothing that lineage answers for."""

import json
import os
import time
from pathlib import Path

import pytest

from cytonet_pipeline.store import Store, write_json, write_text
from cytonet_pipeline.store.garbage import find_garbage

DAY_S = 86400.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with a current encoder, an older version of it, a training in progress, and what killed runs left."""
    store = Store(tmp_path)
    for version in ("old", "new"):
        folder = store.encoder("a", version)
        write_text(_made(folder / "encoder.safetensors"), "weights")
        write_json(folder / "encoder.json", {})
        write_text(folder / "curves.png", "drawn by collect")
        write_text(_made(folder / "checkpoints" / "step-9.safetensors"), "x" * 100)
        write_text(_made(store.training_set(version) / "training_set.json"), "{}")
        for results in (store.patch_embeddings, store.linear_probes, store.umap, store.area_maps):
            write_text(_made(results("a", version) / "part"), "x" * 10)
    store.point_current("a", "new")
    store.point_wanted("a", "new")
    write_text(_made(store.encoder("b", "going") / "checkpoints" / "step-1.safetensors"), "x")
    write_text(_made(store.encoder("b", "given-up") / "checkpoints" / "step-1.safetensors"), "x")
    store.point_wanted("b", "going")
    write_text(_made(store.training_set("going") / "training_set.json"), "{}")
    write_text(_made(store.training_set("never") / "training_set.json"), "{}")
    write_text(_made(tmp_path / "umap" / "a" / ".writing-xyz" / "umap.parquet"), "x")
    write_text(_made(tmp_path / "packed" / "p" / "patches.npy"), "x")
    _age(tmp_path, 2 * DAY_S)
    return store


def test_it_lists_what_is_not_current_and_what_killed_runs_left(store: Store) -> None:
    assert _listed(store) == {
        "patch_embeddings/a/old",
        "linear_probes/a/old",
        "umap/a/old",
        "umap/a/.writing-xyz",
        "area_maps/a/old",
        "encoders/a/old/checkpoints",
        "encoders/a/new/checkpoints",
        "encoders/b/given-up",
        "training_sets/never",
    }


def test_checkpoints_are_kept_until_the_training_has_been_found_whole(store: Store) -> None:
    """A training that says it is done may have left damaged weights; `collect` looks."""
    (store.encoder("a", "new") / "curves.png").unlink()

    assert "encoders/a/new/checkpoints" not in _listed(store)
    assert "encoders/a/old/checkpoints" in _listed(store)


def test_packs_are_kept_while_a_training_is_under_way(store: Store) -> None:
    assert "packed/p" not in _listed(store)

    write_json(store.encoder("b", "going") / "encoder.json", {})
    _age(store.root, 2 * DAY_S)

    assert "packed/p" in _listed(store)


def test_weights_and_records_of_old_versions_outlive_it(store: Store) -> None:
    for item in find_garbage(store):
        item.delete()

    assert find_garbage(store) == []
    for version in ("old", "new"):
        assert (store.encoder("a", version) / "encoder.safetensors").exists()
        assert (store.training_set(version) / "training_set.json").exists()
    assert (store.encoder("b", "going") / "checkpoints" / "step-1.safetensors").exists()


def test_what_was_written_lately_is_left_alone(store: Store) -> None:
    """A run may be writing there at this moment."""
    (store.umap("a", "old") / "part").write_text("y")

    assert "umap/a/old" not in _listed(store)


def test_the_command_deletes_only_when_told_to(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from cytonet_pipeline.cli import app

    monkeypatch.setenv("CYTONET_STORE", str(store.root))
    listed = CliRunner().invoke(app, ["gc", "--json"])
    before = {row["path"] for row in json.loads(listed.output)}
    deleted = CliRunner().invoke(app, ["gc", "--yes"])

    assert "umap/a/.writing-xyz" in before
    assert deleted.exit_code == 0
    assert not any((store.root / path).exists() for path in before)


def _listed(store: Store) -> set[str]:
    return {str(item.path.relative_to(store.root)) for item in find_garbage(store)}


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _age(root: Path, seconds: float) -> None:
    then = time.time() - seconds
    for path in root.rglob("*"):
        os.utime(path, (then, then))
