"""What `cytonet doctor` says of who takes part: `ready` must not stand above a training run that will be refused."""

from cytonet_pipeline.lineage import examine_members
from cytonet_pipeline.store import read_table
from cytonet_pipeline_tests.lineage.conftest import write_sections
from cytonet_pipeline_tests.lineage.test_members import copy, leave
from cytonet_pipeline_tests.lineage.test_queries import train


def findings(world):
    return list(examine_members(world.settings, world.store))


def test_nothing_is_said_where_everything_is_in_order(world):
    train(world)
    assert findings(world) == []


def test_every_brain_that_the_settings_name_must_be_one(world):
    world.experiments["dataset"]["window"] = {"sub-B02": [0, 200], "B22": [0, 200]}
    world.experiments["encoders"]["one"]["held_out"] = "b01"
    world.experiments["encoders"]["small"] |= {"held_out": "B99", "retired": True}
    world.experiments["evaluation"] = {"map_brains": ["sub-B20", "P20"]}

    found = findings(world)

    assert [level for level, _ in found] == ["bad"] * 3
    assert [text.partition(" is not")[0] for _, text in found] == [
        "dataset.window: B22",
        "encoders.one.held_out: b01",
        "evaluation.map_brains: P20",
    ]
    assert "near it: B01" in found[1][1]


def test_a_renamed_brain_is_left_out_with_its_new_name_and_the_remedy(world):
    copy(world, "B02", "P02")
    leave(world, "B02")

    ((level, text),) = findings(world)

    assert level == "note"
    assert "Its scans are those of P02" in text
    assert text.endswith("cytonet forget B02")


def test_copies_are_to_be_fixed_before_anything_is_trained(world):
    copy(world, "B20", "P20")

    ((level, text),) = findings(world)

    assert level == "bad"
    assert "B20 and P20 have 12 scans in common" in text


def test_an_encoder_that_was_trained_on_copies_of_test_sections_is_named(world):
    """A store of an earlier version may hold one: splits went by names alone."""
    folder = world.store.encoder("one", train(world).version)
    rows = read_table(folder / "sections.parquet", "training_sections")
    test, seen = (rows.index[rows["role"] == role][0] for role in ("seen_brains", "train"))
    rows.loc[test, "digest"] = rows.loc[seen, "digest"]
    write_sections(folder, rows)

    ((level, text),) = findings(world)

    assert level == "bad"
    assert f"{rows['brain'][test]}/{rows['sample'][test]}" in text
