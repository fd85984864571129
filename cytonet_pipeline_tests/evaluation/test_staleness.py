"""Results of version 0.2.1 stay current: their `inputs.json` had these keys, with these code versions.

What is shown beside the scores, such as the names of areas, was no input then. It is one now: compared where it is
recorded, and added to the stamps of earlier results.
"""

import logging
import shutil

import pytest

from cytonet_pipeline.stages import AREA_MAPS, LINEAR_PROBE, METRICS_TABLE, PATCH_EMBEDDINGS, UMAP_PLOTS
from cytonet_pipeline.store import read_stamp, read_table, write_stamp
from cytonet_pipeline_tests.evaluation.conftest import ENCODER

# Read from the store that `make demo` of 0.2.1 left: keys, the name of the code version and its value.
OF_0_2_1 = [
    (PATCH_EMBEDDINGS, "indices samples_per_area schema_version umap_every version", "schema_version"),
    (LINEAR_PROBE, "code_version embeddings evaluation gap_mm method protocols", "code_version"),
    (UMAP_PLOTS, "embeddings form held_out knn_k min_dist neighbors reference seed", "form"),
    (AREA_MAPS, "brains embeddings form probe protocol reference spacing_mm version", "form"),
]
# Keys of the evaluation block that the probes' inputs had: a key that came later must not be among them at its default.
KEYS_OF_PROBES = {
    "batch_size", "bootstrap", "draws", "epochs", "knn_k", "knn_temperature", "labels_per_area", "learning_rates",
    "logistic_c", "samples_per_area", "seed", "umap_every",
}  # fmt: skip


@pytest.mark.parametrize(("stage", "keys", "version"), OF_0_2_1, ids=[stage.name for stage, _, _ in OF_0_2_1])
def test_the_inputs_have_the_keys_that_0_2_1_recorded(made, stage, keys, version):
    inputs = stage.inputs(made.settings, ENCODER if stage.partition_set else None)

    assert sorted(inputs.keys() - stage.later_inputs) == keys.split()
    assert inputs[version] == 1
    if stage is LINEAR_PROBE:
        assert set(inputs["evaluation"]) == KEYS_OF_PROBES


def stamp_as_0_2_1(stage, settings, partition):
    """Stamp a result without what version 0.2.1 did not record."""
    inputs = stage.inputs(settings, partition)
    folder = stage.folder(settings, partition)
    folder.mkdir(parents=True, exist_ok=True)
    write_stamp(folder, {key: value for key, value in inputs.items() if key not in stage.later_inputs})
    return folder


def edit_areas(settings, old, new):
    path = settings.data / "derivatives/annotation/desc-areas_dseg.tsv"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize("stage", [LINEAR_PROBE, UMAP_PLOTS, AREA_MAPS], ids=lambda stage: stage.name)
def test_a_result_of_0_2_1_is_kept_and_then_follows_the_area_table(probed, caplog, monkeypatch, stage):
    monkeypatch.setattr(stage, "draw", lambda *_: {})
    folder = stamp_as_0_2_1(stage, probed.settings, ENCODER)
    assert stage.is_current(probed.settings, ENCODER)

    with caplog.at_level(logging.INFO):
        stage.run(probed.settings, ENCODER)

    assert f"{folder}: of version 0.2.1, taken to be made from the present areas" in caplog.text
    assert stage.later_inputs <= read_stamp(folder).keys()
    assert stage.is_current(probed.settings, ENCODER)
    edit_areas(probed.settings, "hOc1", "V1")
    assert not stage.is_current(probed.settings, ENCODER)


def test_a_result_of_0_2_1_that_names_areas_otherwise_is_not_kept(probed):
    """Its own record says which names it shows."""
    stamp_as_0_2_1(LINEAR_PROBE, probed.settings, ENCODER)

    edit_areas(probed.settings, "hOc1", "V1")

    assert not LINEAR_PROBE.is_current(probed.settings, ENCODER)


def test_a_probe_of_0_2_1_gets_retrieval_alone(probed, monkeypatch):
    """What its encoder scored stays as it was, and stays in the table of results meanwhile."""
    monkeypatch.setattr(LINEAR_PROBE, "draw", lambda *_: {})
    monkeypatch.setattr(LINEAR_PROBE, "compute", lambda *_, **__: pytest.fail("computed again"))
    shutil.rmtree(probed.folder / "retrieval")
    stamp_as_0_2_1(LINEAR_PROBE, probed.settings, ENCODER)
    METRICS_TABLE.run(probed.settings, None)
    table = read_table(probed.store.metrics() / "metrics.parquet", "metrics")
    page = (probed.store.metrics() / "metrics.md").read_text()

    at_first = LINEAR_PROBE.is_current(probed.settings, ENCODER)
    LINEAR_PROBE.run(probed.settings, ENCODER)

    assert not at_first
    assert LINEAR_PROBE.is_current(probed.settings, ENCODER)
    assert len(table) == len(probed.metrics)
    assert f"Without current rows of retrieval: {ENCODER}" in page
    assert not METRICS_TABLE.is_current(probed.settings, None)
    METRICS_TABLE.run(probed.settings, None)
    rows = read_table(probed.store.metrics() / "metrics.parquet", "metrics")
    assert rows["protocol"].str.startswith("retrieval_").sum() == 6


def test_another_width_of_patches_makes_retrieval_stale_and_nothing_else(probed):
    """What retrieval is made from stands in its own stamp: the probes know nothing of it."""
    recorded = read_stamp(probed.folder / "retrieval")

    write_stamp(probed.folder / "retrieval", recorded | {"patch_um": 1.0})

    assert not LINEAR_PROBE.is_current(probed.settings, ENCODER)
    inputs = LINEAR_PROBE.inputs(probed.settings, ENCODER)
    assert LINEAR_PROBE.is_made_from(inputs, probed.settings, ENCODER)


def test_a_table_from_before_borders_and_retrieval_is_made_again(probed):
    METRICS_TABLE.run(probed.settings, None)
    recorded = read_stamp(probed.store.metrics())

    later = ("areas", "synthetic", "retrieval", "reference")
    write_stamp(probed.store.metrics(), {k: v for k, v in recorded.items() if k not in later} | {"code_version": 1})

    assert not METRICS_TABLE.is_current(probed.settings, None)


def test_a_renamed_area_makes_stale_what_shows_it_and_nothing_else(probed):
    METRICS_TABLE.run(probed.settings, None)
    names = probed.settings.data / "derivatives/annotation/desc-areas_dseg.tsv"
    for stage in (PATCH_EMBEDDINGS, UMAP_PLOTS, AREA_MAPS):
        stage.folder(probed.settings, ENCODER).mkdir(parents=True, exist_ok=True)
        write_stamp(stage.folder(probed.settings, ENCODER), stage.inputs(probed.settings, ENCODER))
    stages = (PATCH_EMBEDDINGS, LINEAR_PROBE, UMAP_PLOTS, AREA_MAPS, METRICS_TABLE)

    def stale():
        return {s.name for s in stages if not s.is_current(probed.settings, ENCODER if s.partition_set else None)}

    at_first = stale()
    names.write_text(
        "index\tname\tcolor\n" + "\n".join(f"{line}\t#102030" for line in names.read_text().splitlines()[1:]) + "\n"
    )
    recoloured = stale()
    edit_areas(probed.settings, "hOc1", "V1")

    assert at_first == set()
    assert recoloured == {"umap_plots", "area_maps"}
    assert stale() == {"linear_probe", "umap_plots", "area_maps", "metrics_table"}


def test_maps_are_only_drawn_again_after_an_area_was_renamed(probed, monkeypatch):
    """A map takes features of a dense grid; the names of areas are on its pictures alone."""
    folder = AREA_MAPS.folder(probed.settings, ENCODER)
    folder.mkdir(parents=True)
    write_stamp(folder, AREA_MAPS.inputs(probed.settings, ENCODER))
    edit_areas(probed.settings, "hOc1", "V1")
    monkeypatch.setattr(AREA_MAPS, "compute", lambda *_, **__: pytest.fail("computed again"))
    monkeypatch.setattr(AREA_MAPS, "draw", lambda *_: {})

    AREA_MAPS.run(probed.settings, ENCODER)

    assert AREA_MAPS.is_current(probed.settings, ENCODER)
