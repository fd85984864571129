"""What an asset is: one rule of staleness for all of them, and results that are left alone while they are current."""

import dataclasses
import importlib
import shutil
import subprocess
import sys

import pytest
import yaml

from cytonet_pipeline.errors import ConfigurationError, StoreError, TrainingError
from cytonet_pipeline.histology import read_inventory, write_pictures
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import (
    AREA_MAPS,
    COLIN27_TRANSFORMS,
    ENCODER,
    LINEAR_PROBE,
    PATCH_EMBEDDINGS,
    PATCH_INDEX,
    REFERENCE_SPACE,
    SECTION_SCANS,
    STAGES,
    TRAINING_SET,
    UMAP_PLOTS,
    stage_of,
)
from cytonet_pipeline.stages import histology as histology_stages
from cytonet_pipeline.stages.pending import encoders_to_train
from cytonet_pipeline.stages.stage import with_table_version
from cytonet_pipeline.store import (
    TABLES,
    Store,
    Verdict,
    read_stamp,
    read_table,
    table,
    write_record,
    write_table,
)
from cytonet_pipeline_tests.conftest import PROJECT, restamp, settings_for

# Keys of `inputs.json` as version 0.2.1 wrote them: with other keys every result of an existing store would be stale.
KEYS_OF_0_2_1 = {
    "reference_space": {"files", "code"},
    "section_scans": {"brain", "stain", "window", "allowed_roots", "code"},
    "colin27_transforms": {"brain", "reference", "sections", "code"},
    "patch_index": {"reference", "sections", "transforms", "dataset", "code"},
}


@pytest.fixture(scope="module")
def ingested(small_brains, tmp_path_factory):
    """A store with the reference and brain B01."""
    settings = settings_for(small_brains, tmp_path_factory.mktemp("ingested") / "store")
    REFERENCE_SPACE.run(settings, None)
    for stage in (SECTION_SCANS, COLIN27_TRANSFORMS, PATCH_INDEX):
        stage.run(settings, "B01")
    return settings


def test_an_unknown_asset_is_refused_with_the_known_ones():
    with pytest.raises(ConfigurationError, match="section_scan") as caught:
        stage_of("section_scan")
    assert "section_scans" in caught.value.to_fix


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_every_table_that_a_stage_writes_has_a_contract(stage):
    for name in stage.tables:
        assert table(name).columns, name


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_nothing_is_current_in_an_empty_store(stage, small_brains, tmp_path):
    """What a stage needs is not there yet either: that is no error, its result is just not current."""
    settings = settings_for(small_brains, tmp_path / "store")
    partition = {"brain": "B01", "encoder": "tiny_cytonet", None: None}[stage.partition_set]

    assert not stage.is_current(settings, partition)


@pytest.mark.parametrize("stage", [SECTION_SCANS, COLIN27_TRANSFORMS, PATCH_INDEX], ids=lambda stage: stage.name)
def test_a_current_result_is_left_alone(ingested, stage, monkeypatch):
    assert stage.is_current(ingested, "B01")
    before = (stage.folder(ingested, "B01") / "_status.json").stat().st_mtime_ns
    monkeypatch.setattr(type(stage), "ingest", lambda *a, **k: pytest.fail("computed again"))

    stage.run(ingested, "B01")

    assert (stage.folder(ingested, "B01") / "_status.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("name", KEYS_OF_0_2_1)
def test_results_of_0_2_1_are_taken_over(ingested, name):
    stage = stage_of(name)
    partition = "B01" if stage.partition_set else None

    recorded = read_stamp(stage.folder(ingested, partition))

    assert set(recorded) == KEYS_OF_0_2_1[name]
    assert recorded["code"] == {"section_scans": "2", "patch_index": "2"}.get(name, "1")
    assert stage.is_current(ingested, partition)
    assert not stage.is_made_from({**recorded, "code": "next"}, ingested, partition)


def test_a_doubtful_section_of_an_earlier_release_is_examined_again_and_a_sound_one_stays_as_it_was(
    ingested, tmp_path, monkeypatch
):
    """Its thumbnail is all that tells; where nothing is found in the end, nothing else becomes stale."""
    settings = ingested.model_copy(update={"store": tmp_path / "store"})
    shutil.copytree(ingested.store, settings.store)
    folder = SECTION_SCANS.folder(settings, "B01")
    before = SECTION_SCANS.digest(settings, "B01")
    (folder / histology_stages._READ_AS_NOW).unlink()
    pictures = read_inventory(folder).pictures
    sample = sorted(pictures)[1]
    write_pictures(folder, pictures | {sample: 255 - pictures[sample]})
    restamp(folder)
    assert not SECTION_SCANS.is_current(settings, "B01")
    examined = []
    survey = importlib.import_module("cytonet_pipeline.histology.inventory.survey")
    examine = survey.examine
    monkeypatch.setattr(
        survey, "examine", lambda sections, *rest: examined.extend(sections) or examine(sections, *rest)
    )

    SECTION_SCANS.run(settings, "B01")

    assert [section.sample for section in examined] == [sample]
    assert SECTION_SCANS.digest(settings, "B01") == before
    assert all(stage.is_current(settings, "B01") for stage in (SECTION_SCANS, COLIN27_TRANSFORMS, PATCH_INDEX))


def test_a_new_code_version_makes_a_result_stale(ingested, monkeypatch):
    """There is one code version, so the one that Dagster shows is the one that decides."""
    monkeypatch.setattr(type(SECTION_SCANS), "code_version", "next")

    assert not SECTION_SCANS.is_current(ingested, "B01")
    assert SECTION_SCANS.earlier(ingested, "B01") is None


def test_another_version_of_its_table_makes_the_index_stale(monkeypatch):
    """A further column needs no second number: the version of the contract is part of the code version."""
    assert PATCH_INDEX.code_version == with_table_version("2", "patch_index") == "2"

    monkeypatch.setitem(TABLES, "patch_index", dataclasses.replace(table("patch_index"), version=2))

    assert with_table_version("2", "patch_index") == "2.2"


def test_recompute_takes_nothing_over_from_the_earlier_result(ingested, monkeypatch):
    seen = []
    monkeypatch.setattr(
        type(SECTION_SCANS),
        "ingest",
        lambda self, settings, brain, folder, *, recompute: seen.append(recompute) or Verdict("ok", digest="0" * 16),
    )
    settings = ingested.model_copy(update={"store": ingested.store.parent / "other"})

    SECTION_SCANS.run(settings, "B01")
    SECTION_SCANS.run(settings, "B01")
    SECTION_SCANS.run(settings, "B01", recompute=True)

    assert seen == [False, True]


def test_a_data_fault_becomes_the_verdict_of_its_brain_and_nothing_downstream_uses_it(small_brains, tmp_path):
    """One failed brain must not fail everything after it; what needs it refuses by name."""
    settings = settings_for(small_brains, tmp_path / "store")
    REFERENCE_SPACE.run(settings, None)
    SECTION_SCANS.run(settings, "B01")
    folder = SECTION_SCANS.folder(settings, "B01")
    Verdict.failed("sub-B01: torn apart.").write(folder)
    restamp(folder)

    COLIN27_TRANSFORMS.run(settings, "B01")

    verdict = Verdict.read(COLIN27_TRANSFORMS.folder(settings, "B01"))
    assert verdict.status == "failed"
    assert "section scans cannot be used" in verdict.reasons[0]
    assert "torn apart" in verdict.reasons[0]
    assert COLIN27_TRANSFORMS.summary(settings, "B01").data_version == "failed"


def test_a_bug_is_not_taken_for_a_fault_of_the_data(ingested, monkeypatch, tmp_path):
    def buggy(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(histology_stages, "_faults_of_sections", buggy)
    settings = ingested.model_copy(update={"store": tmp_path / "store"})

    with pytest.raises(ZeroDivisionError):
        SECTION_SCANS.run(settings, "B01")

    assert not SECTION_SCANS.folder(settings, "B01").exists()


def test_the_training_set_is_current_until_a_brain_comes_or_goes(ingested, tmp_path):
    TRAINING_SET.run(ingested, "tiny_cytonet")
    assert TRAINING_SET.is_current(ingested, "tiny_cytonet")
    assert not ENCODER.is_current(ingested, "tiny_cytonet")

    for stage in (SECTION_SCANS, COLIN27_TRANSFORMS, PATCH_INDEX):
        stage.run(ingested, "B02")

    assert not TRAINING_SET.is_current(ingested, "tiny_cytonet")


def test_an_encoder_without_weights_goes_through_its_stages_without_dagster(ingested):
    """From a notebook: the same computation as in the UI."""
    TRAINING_SET.run(ingested, "tiny_position")
    ENCODER.run(ingested, "tiny_position")

    assert ENCODER.is_current(ingested, "tiny_position")
    assert ENCODER.summary(ingested, "tiny_position").data_version == ENCODER.folder(ingested, "tiny_position").name


def finished(settings, encoder, problems, seed=0, method="position"):
    """Lay out a version and write the record that a training run with these problems leaves last; the version."""
    path = settings.store.parent / f"seed-{seed}.yaml"
    content = yaml.safe_load(settings.experiments_file.read_text())
    content["encoders"][encoder]["seed"] = seed
    path.write_text(yaml.safe_dump(content))
    settings = Settings(**{**settings.model_dump(), "experiments_file": path})
    TRAINING_SET.run(settings, encoder)
    folder = ENCODER.prepare(settings, encoder)
    write_record(folder / "encoder.json", {"problems": problems, "method": method})
    return settings, folder.name


@pytest.fixture
def one_brain(ingested, tmp_path):
    """A copy of the store that a test may change, without encoders."""
    left_out = shutil.ignore_patterns("encoders", "training_sets")
    shutil.copytree(ingested.store, tmp_path / "store", ignore=left_out)
    return ingested.model_copy(update={"store": tmp_path / "store"})


COLLAPSED = "collapsed: the features' effective rank is 1.2 (below 5)"


@pytest.mark.parametrize(("method", "used"), [("scratch", True), ("supcon", True), ("cytonet", False)])
def test_collapsed_features_of_an_encoder_trained_on_labels_are_a_remark(one_brain, method, used):
    """On one label per area all features may point the same way: a score to be shown, and no row that is missing."""
    settings, version = finished(one_brain, "tiny_position", [COLLAPSED], method=method)

    ENCODER.collect(settings, "tiny_position")

    assert Store(settings.store).current_version("tiny_position") == (version if used else None)
    assert COLLAPSED in ENCODER.summary(settings, "tiny_position").reasons[0]
    assert ENCODER.has_failed(settings, "tiny_position", version) is not used


def test_a_version_that_failed_its_check_is_never_put_into_use_and_not_trained_again(one_brain):
    """Trained twice it would collapse twice; evaluated by the next run it would stand in the table as sound."""
    settings, version = finished(one_brain, "tiny_position", [COLLAPSED])

    ENCODER.collect(settings, "tiny_position")

    assert Store(settings.store).current_version("tiny_position") is None
    assert ENCODER.is_current(settings, "tiny_position")
    assert ENCODER.summary(settings, "tiny_position").reasons == (COLLAPSED,)
    for _ in range(2):
        with pytest.raises(TrainingError, match=f"version {version} failed its check, no version is in use: collapsed"):
            ENCODER.run(settings, "tiny_position")
    assert list(encoders_to_train(settings).inputs) == ["tiny_cytonet", "tiny_scratch"]
    assert COLLAPSED in encoders_to_train(settings).faults["tiny_position"]
    with pytest.raises(StoreError, match="not trained yet"):
        PATCH_EMBEDDINGS.run(settings, "tiny_position")


def test_an_earlier_sound_version_stays_in_use(one_brain):
    earlier, sound = finished(one_brain, "tiny_position", [])
    ENCODER.collect(earlier, "tiny_position")
    settings, _ = finished(one_brain, "tiny_position", [COLLAPSED], seed=1)

    ENCODER.collect(settings, "tiny_position")

    assert Store(settings.store).current_version("tiny_position") == sound
    assert PATCH_EMBEDDINGS.inputs(settings, "tiny_position")["version"] == sound
    with pytest.raises(TrainingError, match=f"{sound} stays in use"):
        ENCODER.run(settings, "tiny_position")


def test_a_sound_version_after_a_failed_one_is_put_into_use(one_brain):
    failed, _ = finished(one_brain, "tiny_position", [COLLAPSED])
    ENCODER.collect(failed, "tiny_position")
    settings, sound = finished(one_brain, "tiny_position", [], seed=1)

    ENCODER.run(settings, "tiny_position")

    assert Store(settings.store).current_version("tiny_position") == sound


def test_a_store_of_0_2_1_that_has_a_collapsed_version_in_use_is_not_evaluated(one_brain):
    """Its pointer was set before the check had spoken; the record beside the weights has the verdict all the same."""
    settings, version = finished(one_brain, "tiny_position", [COLLAPSED])
    Store(settings.store).point_current("tiny_position", version)

    for stage in (PATCH_EMBEDDINGS, LINEAR_PROBE, UMAP_PLOTS, AREA_MAPS):
        assert not stage.is_current(settings, "tiny_position")
        with pytest.raises(TrainingError, match=f"version {version} failed its check"):
            stage.run(settings, "tiny_position")
    assert not encoders_to_train(settings).inputs.keys() & {"tiny_position"}


def test_nothing_is_trained_on_a_training_set_that_leaks(one_brain):
    """Its check blocks within one run only, and the next one would train."""
    TRAINING_SET.run(one_brain, "tiny_position")
    path = TRAINING_SET.folder(one_brain, "tiny_position") / "sections.parquet"
    sections = read_table(path, "training_sections")
    role = sections["role"].where(sections["n_training_patches"] == 0, "seen_brains")
    write_table(path, sections.assign(role=role), "training_sections")
    restamp(path.parent)

    assert not TRAINING_SET.verdict(one_brain, "tiny_position").ok
    with pytest.raises(TrainingError, match="leaks into training"):
        ENCODER.run(one_brain, "tiny_position")


def test_an_untrained_encoder_has_no_results_to_look_for(ingested):
    assert not UMAP_PLOTS.is_current(ingested, "tiny_scratch")
    with pytest.raises(StoreError, match="not trained yet"):
        UMAP_PLOTS.folder(ingested, "tiny_scratch")


def test_controls_need_no_umap_and_no_maps_if_the_experiments_file_says_so(ingested, tmp_path):
    """They stay in the table; their pictures would show noise."""
    path = tmp_path / "experiments.yaml"
    path.write_text(ingested.experiments_file.read_text() + "  umap_and_maps_of: trained\n")
    settings = Settings(**{**ingested.model_dump(), "experiments_file": path})
    stages = (LINEAR_PROBE, UMAP_PLOTS, AREA_MAPS)

    assert [stage.is_requested(settings, "tiny_position") for stage in stages] == [True, False, False]
    assert [stage.is_requested(settings, "tiny_cytonet") for stage in stages] == [True, True, True]
    assert [stage.is_requested(ingested, "tiny_position") for stage in stages] == [True, True, True]


def test_stages_load_without_heavy_packages():
    """The definitions read them, and so does a node that only runs one of them."""
    heavy = ["dagster", "torch", "umap", "matplotlib", "pandas", "SimpleITK", "sklearn"]
    script = f"import sys, cytonet_pipeline.stages; print([m for m in {heavy} if m in sys.modules])"

    ran = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, timeout=120)

    assert ran.stdout.strip() == "[]", ran.stderr
