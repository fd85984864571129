"""Training sets: who takes part, what is kept from the encoder, and what makes a new version."""

import numpy as np
import pytest

from cytonet_pipeline.errors import DamagedResult, StoreError, TrainingError
from cytonet_pipeline.lineage import compare, read_training_set, resolve_training_set, write_training_set
from cytonet_pipeline.patches import read_index
from cytonet_pipeline.stages.pending import encoders_to_train
from cytonet_pipeline.store import Verdict, read_table, table
from cytonet_pipeline_tests.conftest import restamp


def version_of(world, encoder="one"):
    return resolve_training_set(encoder, world.settings, world.store)[0].version


def test_no_patch_of_the_unseen_brain_a_test_section_or_a_gap_is_among_the_training_patches(world):
    training_set, patches = resolve_training_set("one", world.settings, world.store)

    role = training_set.sections.set_index(["brain", "sample"])["role"]
    assert set(role) == {"train", "validation", "seen_brains", "unseen_brain"}
    assert "B20" not in set(patches["brain"])
    assert set(role.loc["B20"]) == {"unseen_brain"}
    assert (role.loc[list(zip(patches["brain"], patches["sample"], strict=True))].to_numpy() == patches["role"]).all()
    assert list(patches) == [c.name for c in table("training_patches").columns]


def test_every_patch_of_training_sections_is_taken_unless_fewer_are_wanted(world):
    training_set, patches = resolve_training_set("one", world.settings, world.store)
    few, some = resolve_training_set("small", world.settings, world.store)

    sections = training_set.sections
    training = sections[sections["role"] == "train"]
    assert (training["n_training_patches"] == training["n_patches"]).all()
    assert training["n_patches"].sum() == (patches["role"] == "train").sum()
    assert (sections.loc[sections["role"] != "train", "n_training_patches"] == 0).all()
    assert few.sections["n_training_patches"].sum() == 500
    assert set(some.loc[some["role"] == "train", "patch_id"]) < set(patches["patch_id"])
    assert (some["role"] == "validation").sum() == (patches["role"] == "validation").sum()


def test_roles_of_the_index_and_of_the_training_set_agree_under_the_same_unseen_brain(world):
    sections = resolve_training_set("one", world.settings, world.store)[0].sections

    for brain, rows in sections.groupby("brain"):
        split = read_index(world.store, brain, ["sample", "split"]).drop_duplicates().set_index("sample")["split"]
        role = rows.set_index("sample")["role"].replace("validation", "train")
        assert role.equals(split.reindex(role.index).rename("role"))


def test_an_encoder_with_another_unseen_brain_keeps_the_test_blocks_of_the_others(world):
    ours, theirs = (resolve_training_set(e, world.settings, world.store)[0].sections for e in ("one", "other"))

    assert set(theirs.loc[theirs["brain"] == "B01", "role"]) == {"unseen_brain"}
    assert (theirs.loc[theirs["brain"] == "B20", "role"] == "train").any()
    b02 = [s.loc[s["brain"] == "B02", ["sample", "role"]].reset_index(drop=True) for s in (ours, theirs)]
    assert b02[0].equals(b02[1])


def test_the_order_in_which_brains_came_in_does_not_matter(world, new_world):
    reversed_world = new_world("reversed")
    for name in ("B20", "B02", "B01"):
        reversed_world.bring_in(name)

    assert version_of(reversed_world) == version_of(world)
    assert version_of(world) == version_of(world)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda w: w.experiments["encoders"]["one"].update(seed=1), id="seed"),
        pytest.param(lambda w: w.experiments["encoders"]["one"].update(loss={"length_mm": 8}), id="loss"),
        pytest.param(lambda w: w.experiments["dataset"].update(window={"B01": [10, 200]}), id="window of its brain"),
        pytest.param(lambda w: w.bring_in("B03"), id="another brain"),
    ],
)
def test_what_decides_the_weights_makes_another_version(world, change):
    before = version_of(world)

    change(world)

    assert version_of(world) != before


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda w: w.experiments["encoders"]["one"].update(retired=True), id="retired"),
        pytest.param(lambda w: w.experiments["encoders"]["one"].update(processes=4), id="number of ranks"),
        pytest.param(lambda w: w.experiments["encoders"]["one"].update(checkpoint_every=7), id="checkpoints"),
        pytest.param(lambda w: w.experiments["dataset"].update(quiet_minutes=5), id="quiet time"),
        pytest.param(lambda w: w.experiments["dataset"].update(window={"B77": [10, 200]}), id="window of no brain"),
        pytest.param(lambda w: w.experiments["encoders"]["small"].update(seed=9), id="another encoder"),
    ],
)
def test_what_decides_no_weight_keeps_the_version(world, change):
    before = version_of(world)

    change(world)

    assert version_of(world) == before


def test_annotations_count_only_for_encoders_that_see_them(world):
    """Weeks of GPU time are not spent again because somebody annotated a section."""
    before = {encoder: version_of(world, encoder) for encoder in ("one", "labelled")}
    world.slabs["B01"].sections.loc[3, "annotation_digest"] = "drawn anew"
    world.bring_in("B01")

    assert version_of(world, "one") == before["one"]
    assert version_of(world, "labelled") != before["labelled"]


def test_a_failed_brain_is_left_out_with_its_reason(world):
    Verdict.failed("sub-B02: no transform to MNIColin27.").write(world.store.colin27_transforms("B02"))

    training_set, patches = resolve_training_set("one", world.settings, world.store)

    assert set(patches["brain"]) == {"B01"}
    assert "no transform to MNIColin27" in training_set.record["left_out"]["B02"]
    assert training_set.record["brains"] == ["B01", "B20"]


def test_an_index_older_than_its_scans_is_not_trained_on(world):
    """Between a new survey and the new index the store holds two halves that do not belong together."""
    world.slabs["B02"].sections.loc[0, "digest"] = "scanned anew"
    world.survey("B02")

    training_set, _ = resolve_training_set("one", world.settings, world.store)

    assert "older than the sections" in training_set.record["left_out"]["B02"]
    world.index("B02")
    assert resolve_training_set("one", world.settings, world.store)[0].record["left_out"] == {}


@pytest.mark.parametrize("missing", ["_status.json", "_inputs.json", "part-0.parquet"])
def test_a_brain_with_a_lost_file_gives_no_version_at_all(world, missing):
    """An index is written in one piece. Left out, the brain would give every encoder another version."""
    (world.store.patch_index("B02") / missing).unlink()

    with pytest.raises(DamagedResult, match=missing) as caught:
        resolve_training_set("one", world.settings, world.store)

    assert "cytonet run" in caught.value.to_fix
    assert encoders_to_train(world.settings).inputs == {}


def test_without_the_unseen_brain_training_goes_on_with_a_warning(new_world):
    world = new_world("without")
    world.bring_in("B01")
    world.release("B20", "still being cut")

    training_set, _ = resolve_training_set("one", world.settings, world.store)

    assert any("B20" in warning for warning in training_set.record["warnings"])


def test_nothing_to_train_on_is_an_error_that_says_why(new_world):
    world = new_world("nothing")
    world.bring_in("B20")
    world.bring_in("B01")
    Verdict.failed("folded").write(world.store.patch_index("B01"))
    restamp(world.store.patch_index("B01"))

    with pytest.raises(TrainingError, match="folded"):
        resolve_training_set("one", world.settings, world.store)


def test_a_written_training_set_reads_back_and_is_never_overwritten(world):
    training_set, _ = resolve_training_set("one", world.settings, world.store)
    write_training_set(world.store, training_set)
    path = world.store.training_set(training_set.version) / "training_set.json"
    written = path.read_bytes()

    training_set.record["created"] = "later"
    write_training_set(world.store, training_set)

    assert path.read_bytes() == written
    found = read_training_set(world.store, training_set.version)
    assert found.sections.equals(training_set.sections)
    assert found.record["config"]["encoder"]["method"] == "cytonet"
    with pytest.raises(StoreError, match="nowhere"):
        read_training_set(world.store, "nowhere")


def test_windows_stand_in_the_sections(world):
    world.experiments["dataset"]["window"] = {"B01": [100, 3000]}

    sections = resolve_training_set("one", world.settings, world.store)[0].sections

    windows = sections.groupby("brain")[["window_low", "window_high"]].first()
    assert windows.loc["B01"].tolist() == [100, 3000]
    assert np.isnan(windows.loc["B02", "window_low"])


@pytest.mark.parametrize("window", [None, [100, 3000]])
def test_an_inverted_brain_has_its_window_exchanged_and_another_version(world, window):
    world.experiments["dataset"]["window"] = window
    before = resolve_training_set("one", world.settings, world.store)[0]
    world.experiments["dataset"]["invert"] = {"B01": True, "B02": False}

    after = resolve_training_set("one", world.settings, world.store)[0]

    low, high = after.sections.groupby("brain")[["window_low", "window_high"]].first().loc["B01"]
    bits = read_table(world.store.section_scans("B01") / "sections.parquet", "section_scans")["bits"].iloc[0]
    assert (low, high) == ((3000, 100) if window else (2**bits - 1, 0))
    assert after.version != before.version
    assert "B01" in compare(before, after)[0]
    assert "window" in compare(before, after)[0]
