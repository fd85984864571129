"""What `cytonet doctor` finds before a run would fail of it."""

from pathlib import Path

import pytest

from cytonet_pipeline.cli.doctor import examine
from cytonet_pipeline_tests.conftest import PROJECT, settings_for


def bad_texts(settings) -> str:
    return "\n".join(each.text for each in examine(settings) if each.bad)


def test_a_file_of_another_kind_beside_the_experiments_is_found(tmp_path, small_brains):
    experiments = tmp_path / "experiments" / "mine.yaml"
    experiments.parent.mkdir()
    experiments.write_text((PROJECT / "experiments" / "demo.yaml").read_text())
    (experiments.parent / "cluster.yaml").write_text("nodes: 2\n")
    settings = settings_for(small_brains, tmp_path / "store").model_copy(update={"experiments_file": experiments})

    assert "cluster.yaml" in bad_texts(settings)


@pytest.mark.parametrize("place", ["/proc/store", "/etc/hostname", "/etc/hostname/store"])
def test_a_store_that_cannot_be_made_is_found(small_brains, place):
    assert f"{place}: " in bad_texts(settings_for(small_brains, Path(place)))
