"""An entry with lists stands for one encoder per combination of their values."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.settings import Experiments, content_for_version, read_experiments, row_name

PLAIN: dict[str, Any] = {"working_pixel_um": 128}
CYTONET = {**PLAIN, "method": "cytonet"}
SCRATCH = {**PLAIN, "method": "scratch"}


def experiments_with(**entries: Any) -> dict[str, Any]:
    return {
        "dataset": {"density_per_mm3": 1, "held_out": "B20"},
        "encoders": entries,
        "evaluation": {"labels_per_area": [1, 10], "draws": 2},
    }


def encoders_of(**entries: Any) -> dict[str, Any]:
    return Experiments.model_validate(experiments_with(**entries)).encoders


def refusal_of(tmp_path: Path, **entries: Any) -> str:
    path = tmp_path / "experiments.yaml"
    path.write_text(yaml.safe_dump(experiments_with(**entries), sort_keys=False))
    with pytest.raises(ConfigurationError) as caught:
        read_experiments(path)
    return str(caught.value)


def test_every_combination_is_an_encoder_named_by_its_values():
    encoders = encoders_of(cyto={**CYTONET, "steps": [5, 10], "held_out": ["B01", "sub-B20"]})

    assert list(encoders) == [
        "cyto_without_B01_steps5",
        "cyto_without_B01_steps10",
        "cyto_without_B20_steps5",
        "cyto_without_B20_steps10",
    ]
    assert (encoders["cyto_without_B20_steps5"].held_out, encoders["cyto_without_B20_steps5"].steps) == ("B20", 5)


def test_all_labels_have_no_draws():
    encoders = encoders_of(s={**SCRATCH, "labels_per_area": [1, 10, "all"], "labels_draw": [0, 1]})

    assert list(encoders) == ["s_n1_draw0", "s_n1_draw1", "s_n10_draw0", "s_n10_draw1", "s_nall"]
    assert encoders["s_nall"].labels_per_area is None
    assert (encoders["s_n10_draw1"].labels_per_area, encoders["s_n10_draw1"].labels_draw) == (10, 1)


def test_a_longer_list_leaves_the_encoders_that_are_there():
    few = encoders_of(c={**CYTONET, "seed": [0, 1]})
    more = encoders_of(c={**CYTONET, "seed": [2, 0, 1]})

    assert few.items() <= more.items()


def test_a_generated_encoder_equals_the_one_that_is_written_out():
    generated = encoders_of(s={**SCRATCH, "labels_per_area": 10, "labels_draw": [1], "samples": ["all"]})

    written = encoders_of(x={**SCRATCH, "labels_per_area": 10, "labels_draw": 1})["x"]
    assert generated == {"s_samplesall_n10_draw1": written}


def test_an_entry_without_labels_per_area_keeps_the_version_it_had():
    assert not {"labels_per_area", "labels_draw"} & content_for_version(encoders_of(s=SCRATCH)["s"]).keys()
    few = encoders_of(s={**SCRATCH, "labels_per_area": 1, "labels_draw": 1})["s"]
    assert content_for_version(few)["labels_per_area"] == 1
    assert content_for_version(few)["labels_draw"] == 1


@pytest.mark.parametrize(
    ("encoder", "labels", "draw", "row"),
    [
        ("s_seed1_n10_draw3", 10, 3, "s_seed1"),
        ("s_n10", 10, 0, "s"),
        ("s_nall", 0, 0, "s"),
        ("s", 0, 0, "s"),
        ("s_n10_draw3", 10, 2, "s_n10_draw3"),
        ("s_n100", 10, 0, "s_n100"),
        ("_n10", 10, 0, "_n10"),
    ],
)
def test_encoders_that_differ_in_their_labels_share_a_row(encoder, labels, draw, row):
    assert row_name(encoder, labels, draw) == row


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        ({"c": {**CYTONET, "seed": []}}, "c.seed: an empty list"),
        ({"c": {**CYTONET, "held_out": ["B01", "sub-B01"]}}, "c.held_out: each value once; B01"),
        ({"c": {**CYTONET, "seed": [[1]]}}, "c.seed: [1] cannot stand in a name"),
        ({"c": {**CYTONET, "seed": [True]}}, "c.seed: True cannot stand in a name"),
        ({"c": {**CYTONET, "seed": [-1]}}, "c.seed: -1 cannot stand in a name"),
        ({"c": {**CYTONET, "seed": [1]}, "c_seed1": CYTONET}, "both c and c_seed1 stand for an encoder of this name"),
        ({"c": {**CYTONET, "labels_per_area": 10}}, "a cytonet encoder is trained without labels"),
        ({"s": {**SCRATCH, "labels_per_area": 10, "samples": 5}}, "labels_per_area and samples exclude each other"),
        ({"s": {**SCRATCH, "labels_per_area": 30}}, "labels_per_area 30 is not among those of the block `evaluation`"),
        ({"s": {**SCRATCH, "labels_per_area": 10, "labels_draw": 2}}, "labels_draw 2, but `evaluation` has 2 draws"),
        ({"s": {**SCRATCH, "labels_draw": 1}}, "labels_draw: with all labels there is nothing to draw"),
        ({"s": {**SCRATCH, "labels_draw": [0, 1]}}, "s.labels_draw: draws differ in which labels are taken"),
        ({"s": {**SCRATCH, "labels_per_area": [0]}}, "encoders.s_n0.labels_per_area: "),
        (
            {"s": {**SCRATCH, "label_per_area": 10}},
            "encoders.s.label_per_area: misspelt, no such key; near it: labels_",
        ),
    ],
)
def test_what_stands_for_no_encoder_is_refused(tmp_path, entries, named):
    assert named in refusal_of(tmp_path, **entries)


def test_a_fault_of_an_entry_is_named_once(tmp_path):
    message = refusal_of(tmp_path, c={**CYTONET, "seed": [0, 1, 2, 3], "step": 5})

    assert "1 fault: encoders.c_seed0.step: misspelt" in message
    assert "(also c_seed1, c_seed2 and 1 more)" in message
