"""Encoders of a few labels per area are trained on the patches that probes get at that number."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cytonet_pipeline.errors import TrainingError
from cytonet_pipeline.lineage import resolve_training_set
from cytonet_pipeline.lineage import training_set as training_set_module
from cytonet_pipeline.lineage.brains import read_brain
from cytonet_pipeline.lineage.few_labels import draw_labels, label_warnings
from cytonet_pipeline.patches import labels_of_draw
from cytonet_pipeline.settings import EncoderBlock


def block(**keys):
    return EncoderBlock(**{"method": "scratch", "working_pixel_um": 64, "labels_per_area": 2, "batch_size": 8, **keys})


@pytest.fixture
def patches():
    """Two brains of ten sections, the last of each for validation; areas 1 to 3, and a fourth with a single sample."""
    random, n = np.random.default_rng(0), 800
    sample = random.integers(0, 10, n)
    area = random.integers(0, 4, n)
    area[np.flatnonzero(sample < 9)[5]] = 4
    return pd.DataFrame(
        {
            "brain": np.where(np.arange(n) < n // 2, "B01", "B02"),
            "sample": sample.astype(str),
            "role": np.where(sample == 9, "validation", "train"),
            "annotated_area": area,
            "order": random.integers(0, 2**64, n, dtype=np.uint64),
        }
    )


def test_the_drawn_patches_are_those_of_the_probes(patches):
    for draw in (0, 1):
        drawn = draw_labels("e", patches, block(labels_draw=draw), 10_000)

        train = patches[(patches["role"] == "train") & (patches["annotated_area"] > 0)]
        expected = train[labels_of_draw(train, 2, draw)].index
        assert set(drawn.patches.index[drawn.patches["role"] == "train"]) == set(expected)
        assert (drawn.patches["role"] == "validation").sum() == (patches["role"] == "validation").sum()


def test_the_cap_of_the_probes_holds_before_the_draw(patches):
    capped = draw_labels("e", patches, block(labels_per_area=100), 5)

    assert capped.counts == {1: 5, 2: 5, 3: 5, 4: 1}


def test_more_labels_contain_the_fewer_of_the_same_draw(patches):
    few, more = (draw_labels("e", patches, block(labels_per_area=n, labels_draw=1), 10_000) for n in (1, 10))

    assert set(few.patches.index) < set(more.patches.index)


def test_an_area_with_fewer_labels_is_counted_and_named(patches):
    drawn = draw_labels("e", patches, block(), 10_000)

    assert drawn.counts == {1: 2, 2: 2, 3: 2, 4: 1}
    assert label_warnings(drawn, block()) == [
        "1 areas have fewer than 2 labels (area 4: 1)",
        "a batch of 8 is larger than the 7 labelled patches: it has patches repeatedly, each time with another "
        "augmentation",
    ]
    assert not any("batch" in warning for warning in label_warnings(drawn, block(batch_size=7)))


def test_without_validation_sections_some_of_training_are_set_aside(patches):
    without = patches[patches["role"] == "train"].reset_index(drop=True)

    drawn = draw_labels("e", without, block(), 10_000)

    aside = drawn.patches[drawn.patches["role"] == "validation"]
    train = drawn.patches[drawn.patches["role"] == "train"]
    assert drawn.chosen_on == "carved"
    assert len(aside) > 0
    assert not set(aside["brain"] + aside["sample"]) & set(train["brain"] + train["sample"])


def test_a_brain_without_annotations_leaves_the_labels_to_the_others(patches):
    bare = patches.assign(annotated_area=patches["annotated_area"].where(patches["brain"] == "B01", 0))

    drawn = draw_labels("e", bare, block(), 10_000)

    assert set(drawn.patches.loc[drawn.patches["role"] == "train", "brain"]) == {"B01"}


@pytest.mark.parametrize("areas", [0, 1])
def test_fewer_than_two_areas_are_refused(patches, areas):
    few = patches.assign(annotated_area=patches["annotated_area"].clip(upper=areas))

    with pytest.raises(TrainingError, match=f"encoder e: {areas} annotated areas in its training sections"):
        draw_labels("e", few, block(), 10_000)


def test_supcon_of_one_label_per_area_needs_a_batch_that_repeats_patches(patches):
    with pytest.raises(TrainingError, match="raise batch_size to 8 or more"):
        draw_labels("e", patches, block(method="supcon", labels_per_area=1, batch_size=6), 10_000)

    enough = block(method="supcon", labels_per_area=1)
    warnings = label_warnings(draw_labels("e", patches, enough, 10_000), enough)
    assert "one label per area: what attracts in SupCon are augmentations of the same patch" in warnings
    draw_labels("e", patches, block(method="scratch", labels_per_area=1, batch_size=6), 10_000)


def test_labels_and_draw_are_part_of_the_version(world, monkeypatch):
    def annotated(store, name):
        brain = read_brain(store, name)
        areas = (1 + np.arange(len(brain.patches)) % 2).astype(np.int32)
        return replace(brain, patches=brain.patches.assign(annotated_area=areas))

    monkeypatch.setattr(training_set_module, "read_brain", annotated)
    world.experiments["encoders"]["few"] = {**world.experiments["encoders"]["labelled"], "labels_per_area": 10}
    versions, counts = set(), []
    for draw in (0, 1):
        world.experiments["encoders"]["few"]["labels_draw"] = draw
        training_set, patches = resolve_training_set("few", world.settings, world.store)
        versions.add(training_set.version)
        counts.append(training_set.record["labels"]["by_area"])
        assert training_set.sections["n_training_patches"].sum() == (patches["role"] == "train").sum() == 20

    assert len(versions) == 2
    assert counts == [{1: 10, 2: 10}] * 2
