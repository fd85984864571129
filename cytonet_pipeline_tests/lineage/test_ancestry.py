"""Encoders that continue from others: the weights name the version, and what an ancestor saw is not forgotten."""

import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from cytonet_pipeline.errors import TrainingError
from cytonet_pipeline.learning.prepare import prepare
from cytonet_pipeline.lineage import ancestors_of, compare, encoders_of, resolve_training_set, write_training_set
from cytonet_pipeline.store import digest_file, read_record, write_record, write_table


def train(world, encoder, weights=0.0):
    """Leave what a training leaves, with some file for its weights."""
    decided, _ = resolve_training_set(encoder, world.settings, world.store)
    write_training_set(world.store, decided)
    folder = world.store.encoder(encoder, decided.version)
    folder.mkdir(parents=True)
    write_record(folder / "training_set.json", decided.record)
    write_table(folder / "sections.parquet", decided.sections, "training_sections")
    save_file({"weight": np.full(3, weights)}, folder / "encoder.safetensors")
    write_record(folder / "encoder.json", {})
    world.store.point_current(encoder, decided.version)
    return decided


@pytest.fixture
def family(world):
    """`next` continues from `one`."""
    world.experiments["encoders"]["next"] = {"method": "cytonet", "working_pixel_um": 64, "init_from": "one"}
    train(world, "one")
    return world


def version_of(world, encoder="next"):
    return resolve_training_set(encoder, world.settings, world.store)[0].version


def test_the_weights_to_continue_from_are_part_of_the_version(family):
    before = version_of(family)
    file = family.store.current_encoder("one") / "encoder.safetensors"
    family.experiments["encoders"]["next"]["init_from"] = str(file)
    by_path = version_of(family)
    save_file({"weight": np.ones(3)}, file)

    assert by_path == before
    assert version_of(family) != before
    family.experiments["encoders"]["next"].pop("init_from")
    assert version_of(family) not in (before, by_path)


def test_nothing_continues_from_a_version_that_failed_its_check(family):
    """Its weights are on the disk all the same, for an entry that names the version or the file."""
    one = family.store.current_encoder("one")
    write_record(one / "encoder.json", {"problems": ["collapsed: all features are the same"]})

    for given in ("one", f"one@{one.name}", str(one), str(one / "encoder.safetensors")):
        family.experiments["encoders"]["next"]["init_from"] = given
        with pytest.raises(TrainingError, match="this version failed its check: collapsed"):
            version_of(family)


def test_the_record_names_weights_version_and_sections(family):
    decided = resolve_training_set("next", family.settings, family.store)[0]

    given = decided.record["init_from"]
    one = family.store.current_encoder("one")
    assert (given["encoder"], given["version"]) == ("one", one.name)
    assert given["digest"] == digest_file(one / "encoder.safetensors")
    assert set(given["sections_seen"]) == {"B01", "B02"}
    plain = resolve_training_set("one", family.settings, family.store)[0]
    assert compare(plain, decided)[-1] == f"initial weights: random → one@{one.name} (weights {given['digest']})"


def test_a_prepared_folder_has_the_weights_with_it(family):
    family.store.point_wanted("next", version_of(family))

    folder = prepare(family.settings, family.store, "next")

    given = read_record(folder / "config.json")["init_from"]
    assert digest_file(folder / "init.safetensors") == given["digest"]
    assert "sections_seen" not in given


def test_ancestors_are_told_also_when_their_folders_are_gone(family):
    family.experiments["encoders"]["third"] = {"method": "supcon", "working_pixel_um": 64, "init_from": "next"}
    train(family, "next")
    train(family, "third")

    chain = ancestors_of("third", family.store)
    assert [ancestor["encoder"] for ancestor in chain] == ["next", "one"]
    seen = encoders_of("B01", first_training_sample(family), family.store)
    assert {use.encoder for use in seen} == {"one", "next", "third"}
    shutil.rmtree(family.store.encoder("one", chain[1]["version"]).parent)
    assert [ancestor["encoder"] for ancestor in ancestors_of("third", family.store)] == ["next", "one"]


def first_training_sample(world):
    sections = resolve_training_set("one", world.settings, world.store)[0].sections
    return sections.loc[(sections["brain"] == "B01") & (sections["role"] == "train"), "sample"].iloc[0]


def test_an_ancestor_that_saw_the_unseen_brain_is_refused(family):
    """Continuing from an encoder of another leave-one-out split would leak the test brain."""
    family.experiments["encoders"]["next"]["held_out"] = "B01"

    with pytest.raises(TrainingError, match=r"trained on sections that it is to be tested on, or near them: B01/"):
        version_of(family)


def test_what_an_ancestors_ancestor_saw_is_not_forgotten(family):
    family.experiments["encoders"] |= {
        "few": {"method": "cytonet", "working_pixel_um": 64, "samples": 1, "init_from": "one"},
        "last": {"method": "cytonet", "working_pixel_um": 64, "held_out": "B01", "init_from": "few"},
    }
    train(family, "few")

    with pytest.raises(TrainingError, match="B01/"):
        version_of(family, "last")


def test_a_section_that_only_the_ancestor_saw_is_told_as_inherited(family):
    family.experiments["encoders"]["few"] = {
        "method": "cytonet", "working_pixel_um": 64, "samples": 1, "init_from": "one",
    }  # fmt: skip
    decided = train(family, "few")
    path = family.store.current_encoder("few") / "sections.parquet"
    sample = first_training_sample(family)
    mine = (decided.sections["brain"] == "B01") & (decided.sections["sample"] == sample)
    write_table(path, decided.sections[~mine], "training_sections")

    uses = {use.encoder: use.role for use in encoders_of("B01", sample, family.store)}

    assert uses == {"one": "train", "few": "inherited"}


def test_weights_of_unknown_origin_are_a_warning(family, tmp_path):
    save_file({"weight": np.zeros(3)}, tmp_path / "downloaded.safetensors")
    family.experiments["encoders"]["next"]["init_from"] = str(tmp_path / "downloaded.safetensors")

    record = resolve_training_set("next", family.settings, family.store)[0].record

    assert any("nobody knows what" in warning for warning in record["warnings"])


@pytest.mark.parametrize("given", ["small", "one@gone", "nobody", "/no/such/encoder.safetensors"])
def test_weights_that_are_not_there_are_named(family, given):
    family.experiments["encoders"]["next"]["init_from"] = given

    with pytest.raises(TrainingError, match=f"init_from {given}"):
        version_of(family)


def test_keys_that_came_later_change_no_version_at_their_default(family):
    """Encoders trained before these keys existed stay current."""
    before = version_of(family, "one")
    defaults = {"activation_checkpointing": False, "chunk_size": None, "compile": False, "loading": "packed"}
    family.experiments["encoders"]["one"] |= {**defaults, "shuffle_buffer": 4096, "workers": 7}

    assert version_of(family, "one") == before
    family.experiments["encoders"]["one"]["chunk_size"] = 64
    assert version_of(family, "one") != before
