"""Checks on a finished store that has been damaged: each finds what it is for, for its own partition."""

import shutil

import dagster as dg
import nibabel
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from cytonet_pipeline.definitions import build_defs
from cytonet_pipeline.defs.partitions import PARTITION_SETS
from cytonet_pipeline.evaluation.features.embedding_store import read_embeddings, write_embeddings
from cytonet_pipeline.stages import AREA_MAPS, ENCODER, LINEAR_PROBE, METRICS_TABLE, STAGES, UMAP_PLOTS
from cytonet_pipeline.store import Store, read_record, write_record
from cytonet_pipeline_tests.conftest import restamp

pytestmark = pytest.mark.xdist_group("ran")

ENCODER_NAME = "tiny_cytonet"
MAP = "sub-B20_space-MNIColin27_desc-predicted"


def stand_in(stage):
    """An asset of the same name that computes nothing, so that a run evaluates the checks alone."""

    @dg.asset(name=stage.name, group_name=stage.group, partitions_def=PARTITION_SETS[stage.partition_set])
    def computes_nothing() -> None: ...

    return computes_nothing


@pytest.fixture(scope="module")
def damaged(ran, tmp_path_factory):
    """Settings of a copy of the finished store, whose files a test may replace."""
    store = tmp_path_factory.mktemp("checks") / "store"
    shutil.copytree(ran.settings.store, store)
    return ran.settings.model_copy(update={"store": store})


@pytest.fixture
def settings(damaged):
    """The damaged store, and its files as they were once the test is over."""
    kept = {path: path.read_bytes() for path in damaged.store.glob("[eulamp]*/**/*") if path.is_file()}
    yield damaged
    for path, content in kept.items():
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)


def evaluated(settings, asset, partition=ENCODER_NAME):
    """Run the checks of an asset, as the real definitions have them."""
    defs = build_defs({"settings": settings}, assets=[stand_in(stage) for stage in STAGES.values()])
    job = {"encoder": "train_encoder", "metrics_table": "metrics"}.get(asset, "evaluate_encoder")
    result = defs.resolve_job_def(job).execute_in_process(
        partition_key=partition, asset_selection=[dg.AssetKey(asset)], raise_on_error=False
    )
    return {evaluation.asset_check_key.name: evaluation for evaluation in result.get_asset_check_evaluations()}


def features_of(settings):
    """The features of B20: identifiers, features, and a function that stores others."""
    store = Store(settings.store)
    version = store.current_encoder(ENCODER_NAME).name
    ids, features = read_embeddings(store, ENCODER_NAME, version, ["B20"])
    path = store.patch_embeddings(ENCODER_NAME, version, "B20") / "part-0.parquet"

    def store_others(others, values):
        write_embeddings(path, others, values, ENCODER_NAME, version)
        restamp(path.parent)

    return ids, features, store_others


def change_table(path, change):
    """Change the rows of a stored table and keep its metadata; a program with a bug has written it so."""
    table = pyarrow.parquet.read_table(path, partitioning=None)
    frame = change(table.to_pandas())
    pyarrow.parquet.write_table(pyarrow.Table.from_pandas(frame, table.schema, preserve_index=False), path)
    restamp(path.parent)


@pytest.mark.parametrize("asset", ["encoder", "patch_embeddings", "linear_probe", "umap_plots", "area_maps"])
@pytest.mark.parametrize("encoder", [ENCODER_NAME, "tiny_position"])
def test_a_sound_store_passes_every_check_of_an_encoder(ran, asset, encoder):
    checks = evaluated(ran.settings, asset, encoder)

    assert checks
    assert {name: check.description for name, check in checks.items() if not check.passed} == {}
    assert all(check.partition == encoder for check in checks.values())


def test_a_feature_that_is_no_number_is_found(settings):
    ids, features, store_features = features_of(settings)
    features[3, 0] = np.nan
    store_features(ids, features)

    check = evaluated(settings, "patch_embeddings")["features_are_complete"]

    assert not check.passed
    assert "1 not finite" in check.description


def test_patches_without_features_are_found_and_only_for_their_encoder(settings):
    ids, features, store_features = features_of(settings)
    store_features(ids[5:], features[5:])

    check = evaluated(settings, "patch_embeddings")["features_are_complete"]

    assert not check.passed
    assert "5 missing" in check.description
    assert evaluated(settings, "patch_embeddings", "tiny_scratch")["features_are_complete"].passed


def test_features_that_are_there_twice_are_found(settings):
    ids, features, store_features = features_of(settings)
    store_features(np.concatenate([ids, ids[:2]]), np.concatenate([features, features[:2]]))

    assert "2 twice" in evaluated(settings, "patch_embeddings")["features_are_complete"].description


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda rows: rows.iloc[4:], "4 differ"),
        (lambda rows: rows.assign(umap_1=rows["umap_1"].where(rows.index != 7, np.float32(np.inf))), "1 not finite"),
        (lambda rows: rows.assign(umap_2=np.float32(0.5)), "0 differ"),
    ],
    ids=["missing", "infinite", "one-line"],
)
def test_coordinates_that_are_incomplete_or_in_one_place_are_found(settings, change, finding):
    change_table(UMAP_PLOTS.folder(settings, ENCODER_NAME) / "umap.parquet", change)

    check = evaluated(settings, "umap_plots")["coordinates_are_complete"]

    assert not check.passed
    assert finding in check.description


def change_volume(path, change):
    image = nibabel.load(path)
    data = change(np.asarray(image.dataobj).copy())
    nibabel.save(nibabel.Nifti1Image(data, image.affine), path)
    restamp(path.parent)


@pytest.mark.parametrize(
    ("name", "change", "finding"),
    [
        ("dseg", lambda d: np.where(d == d.max(), 60000, d).astype(np.uint16), "labels [60000] are not in"),
        ("dseg", lambda d: d * 0, "no voxel has a label"),
        ("probseg", lambda d: d * 0, "without a probability"),
        ("probseg", lambda d: d[:-1], "not on the same grid"),
    ],
)
def test_a_map_that_contradicts_itself_is_an_error(settings, name, change, finding):
    change_volume(AREA_MAPS.folder(settings, ENCODER_NAME) / f"{MAP}_{name}.nii.gz", change)

    check = evaluated(settings, "area_maps")["maps_are_complete"]

    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.ERROR
    assert finding in check.description


def test_a_brain_that_could_not_be_mapped_is_a_warning_with_its_reason(settings):
    """The fault is the brain's, and its own checks are errors already."""
    path = AREA_MAPS.folder(settings, ENCODER_NAME) / "figures.json"
    write_record(path, {**read_record(path), "brains": {"B20": {"mapped": False, "reason": "no usable section"}}})
    restamp(path.parent)

    check = evaluated(settings, "area_maps")["maps_are_complete"]

    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert check.description == "sub-B20: no usable section"


def first(stage, settings, name, partition=ENCODER_NAME):
    return stage.table_files(settings, partition)[name][0]


@pytest.mark.parametrize(
    ("stage", "table", "check", "change"),
    [
        (ENCODER, "history", "history_contract", lambda rows: rows.assign(step=-1)),
        (ENCODER, "training_patches", "training_patches_contract", lambda rows: pd.concat([rows, rows.iloc[:1]])),
        (LINEAR_PROBE, "predictions", "predictions_contract", lambda rows: rows.assign(probability=np.float32(2))),
        (LINEAR_PROBE, "retrieved", "retrieved_contract", lambda rows: rows.assign(distance_mm=np.float32(-1))),
        (UMAP_PLOTS, "umap", "umap_contract", lambda rows: pd.concat([rows, rows.iloc[:1]])),
        (AREA_MAPS, "map_grid", "map_grid_contract", lambda rows: rows.assign(hemisphere="X")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_table_that_breaks_its_contract_is_found(settings, stage, table, check, change):
    change_table(first(stage, settings, table), change)

    result = evaluated(settings, stage.name)[check]

    assert not result.passed
    assert repr(table) in result.description


def test_a_table_that_is_gone_is_found(settings):
    for path in ENCODER.table_files(settings, ENCODER_NAME)["history"]:
        path.unlink()

    assert not evaluated(settings, "encoder")["history_contract"].passed


def test_an_experiment_that_is_in_the_table_twice_is_found(settings):
    change_table(first(METRICS_TABLE, settings, "metrics", None), lambda rows: pd.concat([rows, rows.iloc[:2]]))

    check = evaluated(settings, "metrics_table", None)["metrics_keep_their_contract"]

    assert not check.passed
    assert "2 rows" in check.description
