"""The order in which `cytonet run` brings encoders up to date, and what it leaves alone."""

import shutil

import dagster as dg
import pytest
import yaml

from cytonet_pipeline.definitions import build_defs
from cytonet_pipeline.defs.adopt import adopt_store
from cytonet_pipeline.defs.walk import ancestors_first, walk
from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import ENCODER
from cytonet_pipeline.store import Store, write_record


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


@pytest.mark.xdist_group("ran")
def test_a_collapsed_encoder_is_evaluated_by_no_later_run_either(ran, tmp_path):
    """Trap 5 in docs/dagster.md: a blocking check acts within one run. Here the first walk sees it, and the second."""
    shutil.copytree(ran.settings.store, tmp_path / "store")
    settings = ran.settings.model_copy(update={"store": tmp_path / "store"})
    for results in settings.store.glob("*/tiny_position"):
        shutil.rmtree(results)
    folder = ENCODER.prepare(settings, "tiny_position")
    write_record(folder / "encoder.json", {"problems": ["collapsed: all features are the same"]})
    defs = build_defs({"settings": settings})

    with dg.DagsterInstance.ephemeral() as instance:
        walks = [walk(defs, instance, settings, brain_names=[], encoder_names=["tiny_position"]) for _ in range(2)]
        trained, evaluated = (
            defs.resolve_job_def(job).execute_in_process(
                instance=instance, partition_key="tiny_position", raise_on_error=False
            )
            for job in ("train_encoder", "evaluate_encoder")
        )
    with dg.DagsterInstance.ephemeral() as other:
        adopt_store(other, settings)
        assert other.get_materialized_partitions(dg.AssetKey("encoder")) == {"tiny_cytonet", "tiny_scratch"}

    for summary in walks:
        assert f"version {folder.name} failed its check" in summary.failed["train_encoder tiny_position"]
        assert "collapsed: all features are the same" in summary.failed["train_encoder tiny_position"]
        assert summary.failed["evaluate_encoder tiny_position"] == "not run: what it needs has failed"
    assert not trained.success
    assert not evaluated.success
    assert Store(settings.store).current_version("tiny_position") is None
    assert not (settings.store / "patch_embeddings" / "tiny_position").exists()
