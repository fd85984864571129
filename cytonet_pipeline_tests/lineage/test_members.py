"""Who takes part: released brains of the data set, each once, and never the unseen one under another name."""

import shutil

import pytest

from cytonet_pipeline.errors import ConfigurationError, TrainingError
from cytonet_pipeline.lineage import resolve_training_set, stored_brains_left_out
from cytonet_pipeline.store import read_table
from cytonet_pipeline_tests.lineage.conftest import write_sections
from cytonet_pipeline_tests.lineage.test_queries import train


def resolved(world, encoder="one"):
    return resolve_training_set(encoder, world.settings, world.store)[0]


def copy(world, old, new):
    """Bring a brain in whose scans are those of another one, byte for byte."""
    world.bring_in(new)
    world.slabs[new].sections["digest"] = world.slabs[old].sections["digest"].to_numpy()
    world.bring_in(new)


def leave(world, name):
    """Take a brain out of the data set; the store keeps what it has."""
    shutil.rmtree(world.folder / f"sub-{name}")


@pytest.mark.parametrize("word", ["withdrawn", "n/a", ""])
def test_a_brain_whose_release_was_withdrawn_is_in_no_training_set_from_that_moment(world, word):
    world.release("B02", word)

    training_set = resolved(world)

    assert training_set.record["brains"] == ["B01", "B20"]
    assert "not released" in training_set.record["left_out"]["B02"]
    assert any("left out: B02: not released" in warning for warning in training_set.record["warnings"])


def test_a_brain_that_left_the_data_set_is_in_no_training_set(world):
    before = resolved(world).version
    leave(world, "B02")

    training_set = resolved(world)

    assert set(training_set.sections["brain"]) == {"B01", "B20"}
    assert "the data set does not have it" in training_set.record["left_out"]["B02"]
    assert training_set.version != before


def test_a_brain_that_comes_back_gives_the_version_that_it_had(world):
    before = resolved(world).version
    world.release("B02", "withdrawn")
    assert resolved(world).version != before

    world.release("B02")

    assert resolved(world).version == before


def test_a_brain_that_is_not_ingested_yet_is_said_to_be_missing(world):
    world.release("B07")

    assert resolved(world).record["left_out"] == {"B07": "B07: in the data set, not ingested yet."}


def test_without_a_data_set_nobody_knows_who_takes_part(world):
    """An unmounted disk must not look like a data set from which all brains were withdrawn."""
    for name in ("B01", "B02", "B20"):
        leave(world, name)
    (world.folder / "participants.tsv").unlink()

    with pytest.raises(ConfigurationError, match="no brain in this data set"):
        resolved(world)


def test_a_renamed_unseen_brain_never_becomes_a_training_brain(world):
    """B20 is P20 now, and the experiments file still says B20: the real unseen brain would be trained on."""
    copy(world, "B20", "P20")
    leave(world, "B20")
    world.ingest.pop("B20")
    world.release("P20")

    with pytest.raises(TrainingError, match="held_out: B20, is not in the data set; near it: P20") as caught:
        resolved(world)
    assert "experiments.yaml" in caught.value.to_fix

    # With a row of its own the old name is known, and the scans still say who P20 is.
    world.release("B20", "gone")
    leave(world, "B20")
    with pytest.raises(TrainingError, match="B20/1000 = P20/1000"):
        resolved(world)


def test_a_renamed_unseen_brain_that_is_named_anew_leaves_the_old_one_out(world):
    """The store still has B20; as nobody's unseen brain it would have been a training brain."""
    copy(world, "B20", "P20")
    leave(world, "B20")
    world.experiments["encoders"]["one"]["held_out"] = "P20"

    training_set = resolved(world)

    assert set(training_set.sections.query("role == 'unseen_brain'")["brain"]) == {"P20"}
    assert "B20" not in set(training_set.sections["brain"])
    assert training_set.record["left_out"]["B20"].endswith("Its scans are those of P20: it was renamed.")


def test_a_renamed_training_brain_counts_once(world):
    copy(world, "B02", "P02")
    leave(world, "B02")

    training_set = resolved(world)

    assert set(training_set.sections["brain"]) == {"B01", "B20", "P02"}
    assert list(stored_brains_left_out(world.settings, world.store)) == ["B02"]
    assert "it was renamed" in training_set.record["left_out"]["B02"]


@pytest.mark.parametrize("spelling", ["sub-B01", " B01", "B01"])
def test_the_unseen_brain_has_one_name_however_it_is_spelt(world, spelling):
    version = resolved(world, "other").version
    world.experiments["encoders"]["other"]["held_out"] = spelling

    assert resolved(world, "other").version == version


def test_a_misspelt_unseen_brain_is_refused_with_the_near_names(world):
    world.experiments["encoders"]["one"]["held_out"] = "B2O"

    with pytest.raises(TrainingError, match="near it: B20"):
        resolved(world)


def test_weights_that_saw_a_test_section_under_its_former_name_are_refused(world):
    """Names have changed since; scans have not."""
    ancestor = train(world, "other")
    folder = world.store.encoder("other", ancestor.version)
    (folder / "encoder.safetensors").write_bytes(b"weights")
    rows = read_table(folder / "sections.parquet", "training_sections")
    write_sections(folder, rows.assign(brain="X" + rows["brain"]))
    world.experiments["encoders"]["one"]["init_from"] = f"other@{ancestor.version}"

    with pytest.raises(TrainingError, match="was trained on sections that it is to be tested on"):
        resolved(world)
