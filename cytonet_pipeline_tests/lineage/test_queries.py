"""Lineage from the store alone: what an encoder has seen, who has seen a section, and what differs."""

import shutil

import pytest

from cytonet_pipeline.errors import ConfigurationError, StoreError
from cytonet_pipeline.lineage import (
    compare,
    encoders_of,
    find_section,
    find_training_set,
    learning_of,
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
    section = first.sections.query("brain == 'B01' and role == 'train'").iloc[0]
    sample, patches = section["sample"], section["n_training_patches"]

    uses = encoders_of("B01", sample, world.store)

    assert sorted(uses) == sorted(
        [
            ("one", first.version, "train", False, f"{patches} patches"),
            ("one", second.version, "train", True, f"{patches} patches"),
            ("other", other.version, "unseen_brain", True, "nothing"),
        ]
    )
    assert encoders_of("sub-B01", f"sample-{sample}", world.store) == uses
    assert encoders_of("B01", "no such sample", world.store) == []


def test_training_sets_are_found_by_every_name_that_people_use(world):
    trained = train(world)

    for name in ("one", f"one@{trained.version}", trained.version):
        assert find_training_set(name, world.store).version == trained.version
    for name in ("nobody", f"other@{trained.version}"):
        with pytest.raises(StoreError):
            find_training_set(name, world.store)


def test_a_section_is_found_by_every_spelling_and_a_slip_by_the_near_names(world):
    train(world)

    for spelling in ("B02/1003", "sub-B02/1003", "B02/sample-1003", "sub-B02/sample-1003"):
        assert find_section(spelling, world.store) == ("B02", "1003")
    for spelling, message in {
        "b02/1003": "no brain b02 .*near it: B02",
        "B02/10003": "no section 10003; near it: 1003",
        "B02": "not a section",
    }.items():
        with pytest.raises(ConfigurationError, match=message):
            find_section(spelling, world.store)


def test_a_section_of_a_brain_that_left_the_store_is_still_known(world):
    """Who asks what was made from a donor's brain asks after it was taken out."""
    train(world)
    for folder in (world.store.section_scans("B02"), world.store.patch_index("B02")):
        shutil.rmtree(folder, ignore_errors=True)

    assert find_section("B02/1003", world.store) == ("B02", "1003")


def test_an_encoder_that_is_misspelt_is_refused_with_the_near_names(world):
    trained = train(world)

    with pytest.raises(StoreError, match="near it: one"):
        sections_of("onee", world.store)
    with pytest.raises(StoreError, match=f"near it: {trained.version}"):
        sections_of("one", world.store, trained.version[:-1])
    with pytest.raises(StoreError, match="near it: one"):
        find_training_set("oone", world.store)


@pytest.mark.parametrize(("method", "why"), [("random", "weights are random"), ("position", "reads no image")])
def test_controls_are_not_said_to_have_learned_from_patches(world, method, why):
    world.experiments["encoders"]["one"] |= {"method": method, "steps": 0}
    trained = train(world)
    section = trained.sections.query("role == 'train'").iloc[0]

    assert learning_of("one", world.store).startswith("learned nothing")
    assert why in learning_of("one", world.store)
    assert (sections_of("one", world.store)["n_training_patches"] == 0).all()
    assert [use.learned for use in encoders_of(section["brain"], section["sample"], world.store)] == [
        "nothing (a control)"
    ]


def test_what_was_learned_is_said_with_numbers(world):
    seen = train(world, "labelled").sections["n_training_patches"]

    expected = f"learned from images and annotated areas of {seen.sum()} patches of {(seen > 0).sum()} sections"
    assert learning_of("labelled", world.store) == expected


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
