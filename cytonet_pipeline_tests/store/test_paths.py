"""A store belongs to one data set and one `dataset:` block."""

import json

import pytest

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store, open_store

EXPERIMENTS = """
dataset: {{density_per_mm3: 0.1, held_out: B20, gap_mm: {gap}{more}}}
encoders: {{e: {{method: random, working_pixel_um: 128, steps: 0}}}}
"""


def settings_with(tmp_path, gap, name="one", more=""):
    data = tmp_path / name
    data.mkdir(exist_ok=True)
    (data / "dataset_description.json").write_text(json.dumps({"Name": name}))
    experiments = tmp_path / f"gap{gap}.yaml"
    experiments.write_text(EXPERIMENTS.format(gap=gap, more=more))
    return Settings(data=data, reference=tmp_path, store=tmp_path / "store", experiments_file=experiments)


def test_a_store_refuses_another_dataset_block_and_names_the_key(tmp_path):
    open_store(settings_with(tmp_path, 1.0))
    open_store(settings_with(tmp_path, 1.0))

    with pytest.raises(StoreError, match=r"gap_mm was 1\.0, now 2\.0"):
        open_store(settings_with(tmp_path, 2.0))


@pytest.mark.parametrize("more", ["window: {B07: [0, 4095]}", "invert: {B07: true}", "mask_value: {B07: 2}"])
def test_what_is_said_of_single_brains_may_be_said_later_and_taken_back(more, tmp_path):
    """Otherwise one brain from another microscope would need a store of its own."""
    for extra in ("", f", {more}", ""):
        assert open_store(settings_with(tmp_path, 1.0, more=extra)).root == tmp_path / "store"


def test_a_store_refuses_another_data_set(tmp_path):
    """Brains of the same name would take each other's place."""
    open_store(settings_with(tmp_path, 1.0, "one"))

    with pytest.raises(StoreError, match="data_set was 'one', now 'two'"):
        open_store(settings_with(tmp_path, 1.0, "two"))


def test_an_encoder_without_training_says_how_to_get_one(tmp_path):
    with pytest.raises(StoreError, match="not trained yet") as caught:
        Store(tmp_path).current_encoder("demo_cytonet")
    assert "cytonet run --encoders demo_cytonet" in str(caught.value)
