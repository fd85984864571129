"""What rests on a section: found before it goes, and when it has gone."""

import json

import pandas as pd

from cytonet_pipeline.lineage import affected_by, sections_changed_under
from cytonet_pipeline.store import write_record, write_stamp, write_table
from cytonet_pipeline_tests.lineage.test_queries import train


def evaluate(world, training_set, brains):
    """Leave what features, probes and a UMAP leave, as far as they say which brains they were made with."""
    encoder, version = training_set.encoder, training_set.version
    embeddings = {"indices": dict.fromkeys(brains, "digest"), "version": version}
    for kind in ("patch_embeddings", "linear_probes", "umap"):
        folder = world.store.root / kind / encoder / version
        folder.mkdir(parents=True)
        write_stamp(folder, embeddings if kind == "patch_embeddings" else {"embeddings": embeddings})


def map_sections(world, training_set, brain, samples):
    folder = world.store.area_maps(training_set.encoder, training_set.version)
    row = {"patch_id": 1, "section": 1, "x_px": 0, "y_px": 0, "ref_x_mm": 0.0, "ref_y_mm": 0.0, "ref_z_mm": 0.0}
    rows = [{**row, "patch_id": n, "brain": brain, "sample": sample} for n, sample in enumerate(samples)]
    grid = pd.DataFrame(rows).assign(hemisphere="L", annotated_area=0, predicted_area=1, probability=0.5)
    write_table(folder / f"sub-{brain}_desc-predicted_grid.parquet", grid, "map_grid")


def one_of(training_set, role, brain=None):
    rows = training_set.sections.query("role == @role")
    row = rows if brain is None else rows[rows["brain"] == brain]
    return str(row["brain"].iloc[0]), str(row["sample"].iloc[0])


def test_a_training_section_affects_the_weights_and_all_that_follows_from_them(world):
    trained, other = train(world), train(world, "other")
    evaluate(world, trained, ("B01", "B02", "B20"))
    brain, sample = one_of(trained, "train", "B01")

    found = affected_by(world.store, brain, [sample])

    of_one = {each.what: each.how for each in found if each.encoder == "one"}
    assert list(of_one) == ["weights", "features", "probes", "UMAP"]
    assert "learned from" in of_one["weights"]
    assert all("through the weights" in how for what, how in of_one.items() if what != "weights")
    assert {each.version for each in found} == {trained.version}, "to `other` it is of the unseen brain, not evaluated"
    assert affected_by(world.store, "B01"), "so does the whole brain"
    assert [e.encoder for e in affected_by(world.store, "B20") if e.what == "weights"] == [other.encoder]


def test_a_test_section_affects_what_was_made_with_it_and_never_the_weights(world):
    trained = train(world)
    evaluate(world, trained, ("B01", "B20"))
    brain, sample = one_of(trained, "unseen_brain")
    map_sections(world, trained, brain, [sample, "elsewhere"])

    found = {each.what: each.how for each in affected_by(world.store, brain, [sample])}

    assert list(found) == ["features", "probes", "UMAP", "area maps"]
    assert found["probes"] == "scored on 1 section"
    assert found["area maps"] == "1 section mapped at 1 points"
    assert not any("weights" in how for how in found.values())
    gone = one_of(trained, "seen_brains", "B02")
    assert affected_by(world.store, gone[0], [gone[1]]) == [], "its brain was left out of this evaluation"


def test_weights_that_continue_from_others_rest_on_what_those_saw(world):
    trained = train(world)
    brain, sample = one_of(trained, "unseen_brain")
    folder = world.store.encoder("one", trained.version)
    (folder / "inputs.json").unlink(missing_ok=True)
    record = {
        **json.loads((folder / "training_set.json").read_text()),
        "init_from": {"sections_seen": {brain: [sample]}},
    }
    write_record(folder / "training_set.json", record)

    (found,) = affected_by(world.store, brain, [sample])

    assert found.what == "weights"
    assert "continues from" in found.how


def test_what_has_happened_under_an_encoder_is_listed_with_what_the_section_is_to_it(world):
    """The sections of this world have no scans in a data set: to the data set all of them are gone."""
    trained = train(world)

    changed = sections_changed_under("one", world.settings, world.store)

    used = trained.sections[trained.sections["role"] != "gap"]
    assert set(changed) == set(zip(used["brain"], used["sample"], strict=True))
    assert "deleted" in changed[one_of(trained, "train")]
    assert "learned from" in changed[one_of(trained, "train")]
    assert "unseen brain" in changed[one_of(trained, "unseen_brain")]
