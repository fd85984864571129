"""Lineage from the store alone: what an encoder has seen, who has seen a section, and what differs."""

import shutil

import pytest

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.lineage import (
    compare,
    encoders_of,
    find_training_set,
    resolve_training_set,
    sections_of,
    would_change,
    write_training_set,
)
from cytonet_pipeline.store import Verdict, write_record
from cytonet_pipeline_tests.conftest import restamp


def train(world, encoder="one", *, finish=True):
    """Do what preparing and collecting a training leave in the store."""
    training_set, _ = resolve_training_set(encoder, world.settings, world.store)
    write_training_set(world.store, training_set)
    world.store.point_wanted(encoder, training_set.version)
    folder = world.store.encoder(encoder, training_set.version)
    shutil.copytree(world.store.training_set(training_set.version), folder)
    if finish:
        write_record(folder / "encoder.json", {})
        world.store.point_current(encoder, training_set.version)
    return training_set


def test_an_encoders_sections_are_those_of_its_current_version(world):
    first = train(world)
    world.bring_in("B03")
    second = train(world)

    assert sections_of("one", world.store).equals(second.sections)
    assert sections_of("one", world.store, first.version).equals(first.sections)
    with pytest.raises(StoreError, match="no version"):
        sections_of("one", world.store, "1234")
    with pytest.raises(StoreError, match="not trained yet"):
        sections_of("small", world.store)


def test_a_section_knows_every_encoder_that_knows_it(world):
    first, other = train(world), train(world, "other")
    world.experiments["encoders"]["one"]["seed"] = 1
    second = train(world)
    train(world, "small", finish=False)
    sample = first.sections.query("brain == 'B01' and role == 'train'")["sample"].iloc[0]

    uses = encoders_of("B01", sample, world.store)

    assert sorted(uses) == sorted(
        [
            ("one", first.version, "train", False),
            ("one", second.version, "train", True),
            ("other", other.version, "unseen_brain", True),
        ]
    )
    assert encoders_of("B01", "no such sample", world.store) == []


def test_training_sets_are_found_by_every_name_that_people_use(world):
    trained = train(world)

    for name in ("one", f"one@{trained.version}", trained.version):
        assert find_training_set(name, world.store).version == trained.version
    for name in ("nobody", f"other@{trained.version}"):
        with pytest.raises(StoreError):
            find_training_set(name, world.store)


def test_lineage_outlives_the_folder_of_training_sets(world):
    trained = train(world)
    shutil.rmtree(world.store.training_set(trained.version))

    assert find_training_set("one", world.store).sections.equals(trained.sections)


def test_nothing_would_change_until_something_does(world):
    assert would_change("one", world.settings, world.store) is None
    train(world)
    assert would_change("one", world.settings, world.store) == []

    world.bring_in("B03")
    world.experiments["encoders"]["one"]["loss"] = {"length_mm": 8}

    changes = would_change("one", world.settings, world.store)
    assert any(line.startswith("brain B03 added: 12 sections (") for line in changes)
    assert "setting encoder.loss.length_mm: 5.0 → 8.0" in changes


def test_a_section_that_was_scanned_again_is_named(world):
    train(world)
    world.slabs["B01"].sections.loc[4, "digest"] = "scanned anew"
    world.bring_in("B01")

    assert would_change("one", world.settings, world.store) == ["section B01/1004: scan changed"]


def test_a_withdrawn_section_is_named_with_what_follows_from_it(world):
    train(world)
    world.slabs["B01"].sections.loc[11, "status"] = "withdrawn"
    world.bring_in("B01")

    changes = would_change("one", world.settings, world.store)

    assert any(line.startswith("section B01/1011 removed (") for line in changes)
    assert any("patches: " in line for line in changes)


def test_a_brain_that_failed_since_is_reported_as_removed(world):
    train(world)
    Verdict.failed("folded").write(world.store.patch_index("B02"))
    restamp(world.store.patch_index("B02"))

    changes = would_change("one", world.settings, world.store)

    assert changes[0].startswith("brain B02 removed: 12 sections")


def test_a_training_set_does_not_differ_from_itself(world):
    assert compare(train(world), find_training_set("one", world.store)) == []
