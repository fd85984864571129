"""Each key of an experiments file says what it affects; a version is made from that alone."""

from typing import Any

import pytest
from pydantic import BaseModel, Field

from cytonet_pipeline import settings
from cytonet_pipeline.settings import DatasetBlock, EncoderBlock, content_for_version, keys_affecting
from cytonet_pipeline.settings.keys import COMPUTATION, NOTHING, RESULT, affects, effect_of

BLOCKS = [
    settings.DatasetBlock,
    settings.EncoderBlock,
    settings.LossBlock,
    settings.AugmentationBlock,
    settings.OptimizerBlock,
    settings.EvaluationBlock,
    settings.IngestBlock,
]
PLAIN: dict[str, Any] = {"method": "cytonet", "working_pixel_um": 64}


class Small(BaseModel):
    """A block of one key of each kind."""

    rate: float = Field(0.1, json_schema_extra=RESULT)
    threads: int = Field(1, json_schema_extra=COMPUTATION)
    ranks: int = Field(1, json_schema_extra=affects("computation", digested="default"))
    retired: bool = Field(False, json_schema_extra=NOTHING)
    brain: str = Field("B20", json_schema_extra=affects("result", digested="apart"))
    mode: str = Field("plain", json_schema_extra=affects("result", added_in="0.3.0"))
    depth: int = Field(3, json_schema_extra=affects("result", added_in="0.3.0", read_if=("mode", "deep")))


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
def test_every_key_says_what_it_affects(block):
    for key in block.model_fields:
        effect_of(block, key)


def test_a_key_that_does_not_say_so_is_an_error():
    class Silent(BaseModel):
        rate: float = 0.1

    with pytest.raises(TypeError, match=r"Silent\.rate: its field does not say what it affects"):
        content_for_version(Silent())


def test_what_changes_only_the_computation_is_not_part_of_a_version():
    assert content_for_version(Small(threads=8, ranks=64, retired=True, brain="B01")) == {"rate": 0.1, "ranks": 1}


def test_a_key_that_came_later_leaves_versions_as_they_were_at_its_default():
    """Otherwise every upgrade would train every encoder again."""
    assert "mode" not in content_for_version(Small(mode="plain"))
    assert content_for_version(Small(mode="deep"))["mode"] == "deep"


def test_a_value_that_nothing_reads_is_not_part_of_a_version():
    assert "depth" not in content_for_version(Small(mode="plain", depth=9))
    assert content_for_version(Small(mode="deep", depth=9))["depth"] == 9


def test_blocks_in_blocks_follow_the_same_rules():
    content = content_for_version(EncoderBlock(**PLAIN, loss={"length_mm": 3}))

    assert content["loss"]["length_mm"] == 3.0
    assert content["loss"]["transfer"] == "gaussian"


def test_unfinished_training_goes_on_with_another_number_of_ranks_workers_or_checkpoints():
    """These keys are also what a training run takes over from the experiments file when it is started again."""
    assert keys_affecting(EncoderBlock, "computation") == {"processes", "workers", "checkpoint_every"}


def test_retiring_an_encoder_and_waiting_for_a_brain_affect_nothing():
    assert keys_affecting(EncoderBlock, "nothing") == {"retired"}
    assert keys_affecting(DatasetBlock, "nothing") == {"quiet_minutes", "allowed_roots", "plausible_pixel_um"}


def test_a_later_key_is_recorded_only_where_it_says_something():
    """What a store of an earlier version recorded of its data set then still equals what is recorded now."""
    plain = {"density_per_mm3": 1.0, "held_out": "B20"}

    assert not {"invert", "mask_value"} & DatasetBlock(**plain).model_dump(mode="json").keys()
    block = DatasetBlock(**plain, invert={"B01": False}, mask_value=2)
    assert block.model_dump(mode="json")["invert"] == {"B01": False}
    assert DatasetBlock.model_validate(block.model_dump(mode="json")) == block
    assert content_for_version(block) == content_for_version(DatasetBlock(**plain))
