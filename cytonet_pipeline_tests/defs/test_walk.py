"""The order in which `cytonet run` brings encoders up to date."""

import pytest
import yaml

from cytonet_pipeline.defs.walk import ancestors_first
from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.settings import Settings


def test_an_encoder_is_trained_after_the_one_that_it_continues_from(tmp_path):
    """`cytonet run` over a whole file would otherwise fail on the first of the two."""
    settings = settings_with(tmp_path, {"second": "first", "third": "second@0123456789abcdef", "first": None})

    assert ancestors_first(settings, ["second", "third", "first"]) == ["first", "second", "third"]
    assert ancestors_first(settings, ["third"]) == ["third"]


def test_encoders_that_continue_from_one_another_are_refused(tmp_path):
    settings = settings_with(tmp_path, {"a": "b", "b": "a"})

    with pytest.raises(ConfigurationError, match="in a circle"):
        ancestors_first(settings, ["a", "b"])


def settings_with(folder, ancestors):
    """Settings of an experiments file whose encoders continue from others."""
    entries = {
        name: {"method": "cytonet", "working_pixel_um": 128, **({"init_from": before} if before else {})}
        for name, before in ancestors.items()
    }
    path = folder / "experiments.yaml"
    path.write_text(yaml.safe_dump({"dataset": {"density_per_mm3": 1, "held_out": "B20"}, "encoders": entries}))
    return Settings.from_environment({"CYTONET_EXPERIMENTS": str(path)})
