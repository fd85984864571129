"""Settings are read strictly, and say what is wrong in words."""

from pathlib import Path

import pytest
import yaml

from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.settings import Settings, read_all_experiments, read_experiments
from cytonet_pipeline_tests.conftest import PROJECT

DEMO = PROJECT / "experiments" / "demo.yaml"


def changed(tmp_path: Path, change) -> Path:
    content = yaml.safe_load(DEMO.read_text())
    change(content)
    path = tmp_path / "experiments.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_misspelt_key_is_named_with_its_place(tmp_path):
    path = changed(tmp_path, lambda c: c["encoders"]["demo_cytonet"].update(bach_size=3))

    with pytest.raises(ConfigurationError, match=r"encoders\.demo_cytonet\.bach_size: misspelt") as caught:
        read_experiments(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda c: c["dataset"].update(density_per_mm3=-1), "density_per_mm3"),
        (lambda c: c["encoders"]["demo_cytonet"].update(method="byol"), "method"),
        (lambda c: c["encoders"]["demo_cytonet"].update(working_pixel_um=4000), "fewer than 8 px"),
        (lambda c: c.pop("dataset"), "dataset"),
        (lambda c: c["encoders"].update({"a b": c["encoders"]["demo_cytonet"]}), "a b"),
    ],
)
def test_an_impossible_value_is_named(tmp_path, change, named):
    with pytest.raises(ConfigurationError, match=named):
        read_experiments(changed(tmp_path, change))


def test_a_name_may_be_used_once_across_files(tmp_path):
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(DEMO.read_text())

    with pytest.raises(ConfigurationError, match=r"is also in .*a\.yaml"):
        read_all_experiments(tmp_path)


def test_the_shipped_experiments_are_valid_and_their_names_unique():
    names = read_all_experiments(PROJECT / "experiments")
    assert {"demo_cytonet", "poster_r50_10M"} <= set(names)


def test_the_configured_data_set_may_hold_out_another_brain_for_one_encoder(tmp_path):
    path = changed(tmp_path, lambda c: c["encoders"]["demo_supcon"].update(held_out="B01"))
    settings = Settings.from_environment({"CYTONET_EXPERIMENTS": str(path)})

    assert settings.held_out("demo_supcon") == "B01"
    assert settings.held_out("demo_cytonet") == "B20"
    with pytest.raises(ConfigurationError, match="no encoder 'x'"):
        settings.encoder("x")
