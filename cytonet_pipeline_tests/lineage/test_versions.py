"""Versions of encoders stay what they were: an upgrade must not train again what is trained."""

import json
from pathlib import Path

import pytest
from pydantic import BaseModel

from cytonet_pipeline.settings import DatasetBlock, EncoderBlock
from cytonet_pipeline_tests.lineage.fixed_store import versions

RECORDED = json.loads((Path(__file__).parent / "versions_0_2_1.json").read_text())


def test_every_encoder_has_the_version_that_it_had_in_0_2_1(tmp_path):
    assert versions(tmp_path, RECORDED["experiments"]) == RECORDED["versions"]


@pytest.mark.parametrize(("part", "block"), [("encoder", EncoderBlock), ("dataset", DatasetBlock)])
def test_the_recorded_versions_cover_every_key_with_a_value_that_is_not_its_default(part, block):
    """A key that came later needs none: at its default it leaves versions as they are (`settings/keys.py`)."""
    recorded = [
        entry
        for content in RECORDED["experiments"].values()
        for entry in (content["encoders"].values() if part == "encoder" else [content["dataset"]])
    ]

    covered = {key for entry in recorded for key in _changed(entry, block)}

    assert {*_keys_of(block)} <= covered


def _keys_of(block: type[BaseModel], prefix: str = "") -> list[str]:
    """Return a block's keys that 0.2.1 had, those of blocks in it included."""
    keys = []
    for name, field in block.model_fields.items():
        if field.json_schema_extra["added_in"] not in {None, "0.2.0", "0.2.1"}:
            continue
        nested = isinstance(field.default, BaseModel)
        keys += _keys_of(type(field.default), f"{name}.") if nested else [prefix + name]
    return keys


def _changed(entry: dict, block: type[BaseModel], prefix: str = "") -> list[str]:
    changed = []
    for name, value in entry.items():
        default = block.model_fields[name].default
        if isinstance(default, BaseModel):
            changed += _changed(value, type(default), f"{name}.")
        elif value != default:
            changed.append(prefix + name)
    return changed
