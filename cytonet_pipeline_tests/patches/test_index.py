"""The patch index: the values of each column, on a brain where everything is known."""

import logging

import numpy as np
import pandas as pd
import pyarrow.dataset
import pyarrow.parquet
import pytest

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.patches import build_index, order_of, patch_ids, read_index, read_index_parameters, write_index
from cytonet_pipeline.patches.ids import morton_of
from cytonet_pipeline.patches.reference_columns import obliquity_deg, pulled_back_normals
from cytonet_pipeline.registration import Affine
from cytonet_pipeline.store import Store, table
from cytonet_pipeline_tests.patches.slab import BLOCK, PIXEL_UM, THICK_MM, slab_brain


@pytest.fixture(scope="module")
def slab(tmp_path_factory):
    return slab_brain(tmp_path_factory.mktemp("slab"), [0.0, 1.5, 3.0, 4.5], name="B01")


@pytest.fixture(scope="module")
def index(slab):
    return build_index(*slab.arguments())


class NowhereLeft(Affine):
    """Has no image for points left of the midline, as the inverse of a folded field has none."""

    def _map(self, points: np.ndarray) -> np.ndarray:
        mapped = super()._map(points)
        mapped[points[:, 0] < 0] = np.nan
        return mapped


def test_the_index_keeps_its_contract_and_is_reproducible(slab, index):
    assert [c.name for c in table("patch_index").columns] == list(index.columns)
    assert index.dtypes["patch_id"] == np.uint64
    assert index.dtypes["ref_x_mm"] == np.float32
    assert index.equals(build_index(*slab.arguments()))
    assert index["patch_id"].is_unique


def test_places_depth_and_areas_follow_from_the_pixel(index):
    x_mm, y_mm = index["x_px"] * PIXEL_UM / 1000, index["y_px"] * PIXEL_UM / 1000

    np.testing.assert_allclose(index["brain_x_mm"], x_mm - 10, atol=1e-5)
    np.testing.assert_allclose(index["brain_y_mm"], (index["section"] - 1000) * 1.5, atol=1e-5)
    np.testing.assert_allclose(index["ref_z_mm"], 9 - y_mm, atol=1e-5)
    np.testing.assert_allclose(index["depth"], np.clip(1 - (9 - y_mm) / THICK_MM, 0, 1), atol=1e-5)
    assert (index["annotated_area"] == np.where(x_mm < 10, 3, 300)).all()
    assert (index["atlas_area"] == np.where(x_mm < 10, 7, 1007)).all()
    assert (index["hemisphere"] == np.where(x_mm < 10, "L", "R")).all()


def test_the_cortex_fraction_is_that_of_the_patch_square(index):
    """The patch is 2 mm wide, the slab 4 mm thick and as wide as the scan."""
    top_mm = index["y_px"] * PIXEL_UM / 1000 - 1
    left_mm = index["x_px"] * PIXEL_UM / 1000 - 1

    down = np.clip(np.minimum(top_mm + 2, 9) - np.maximum(top_mm, 5), 0, None)
    right = np.clip(np.minimum(left_mm + 2, 20) - np.maximum(left_mm, 0), 0, None)
    np.testing.assert_allclose(index["cortex_fraction"], down * right / 4, atol=1e-5)


def test_ids_and_order_are_those_of_the_hashes(index):
    section = index[index["sample"] == "1002"]

    assert (
        section["patch_id"] == patch_ids("B01", "1002", section["x_px"].to_numpy(), section["y_px"].to_numpy())
    ).all()
    assert (index["order"] == order_of(index["patch_id"].to_numpy(), BLOCK.seed)).all()


def test_rows_follow_sections_and_the_curve_within_them(index):
    assert index["section"].is_monotonic_increasing
    for _, rows in index.groupby("section"):
        assert np.all(np.diff(morton_of(rows["x_px"].to_numpy(), rows["y_px"].to_numpy()).astype(np.int64)) > 0)


def test_neighbouring_rows_are_neighbours_on_the_scan(index):
    xy_px = index.loc[index["sample"] == "1001", ["x_px", "y_px"]].to_numpy()

    def step(order: np.ndarray) -> float:
        return float(np.median(np.linalg.norm(np.diff(xy_px[order], axis=0), axis=1)))

    assert step(np.arange(len(xy_px))) < 0.2 * step(np.random.default_rng(0).permutation(len(xy_px)))


def test_a_section_that_contains_the_normal_is_cut_straight_and_a_tilted_one_by_its_tilt(slab, index, tmp_path):
    tilted = build_index(*slab_brain(tmp_path, [0.0, 3.0], tilt_deg=25).arguments())

    np.testing.assert_allclose(index["obliquity_deg"], 0, atol=1e-3)
    np.testing.assert_allclose(tilted["obliquity_deg"], 25, atol=1e-3)


def test_normals_go_back_with_the_transposed_jacobian():
    """A shear: surfaces z' = z + 0.5 y have the gradient (0, 0.5, 1) in the brain, not the vector that maps to z."""
    shear = Affine(np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0.5, 1, 0], [0, 0, 0, 1.0]]))
    points_mm = np.random.default_rng(0).normal(size=(20, 3))

    pulled = pulled_back_normals(shear, points_mm, shear(points_mm), np.tile([0, 0, 1.0], (20, 1)))

    np.testing.assert_allclose(pulled, np.tile(np.array([0, 0.5, 1]) / np.sqrt(1.25), (20, 1)), atol=1e-9)
    tangential = obliquity_deg(np.array([[0, 0.5, 1]]) / np.sqrt(1.25), pulled[:1])
    np.testing.assert_allclose(tangential, 90, atol=1e-3)


def test_patches_without_a_position_in_the_reference_are_left_out_and_counted(tmp_path, caplog):
    nowhere = NowhereLeft(np.eye(4))
    whole = build_index(*slab_brain(tmp_path, [0.0, 2.0]).arguments())

    with caplog.at_level(logging.WARNING):
        half = build_index(*slab_brain(tmp_path, [0.0, 2.0], to_reference=nowhere).arguments())

    assert half.attrs["left_out"] == len(whole) - len(half) > 300
    assert str(half.attrs["left_out"]) in caplog.text
    assert set(half["patch_id"]) == set(whole.loc[whole["brain_x_mm"] >= 0, "patch_id"])


def test_a_mask_that_vanished_affects_its_section_alone(tmp_path):
    slab = slab_brain(tmp_path, [0.0, 2.0, 4.0])
    slab.brain.sections[1].mask.unlink()

    index = build_index(*slab.arguments())

    assert sorted(index["sample"].unique()) == ["1000", "1002"]
    assert "1001-mask" in index.attrs["sections"]["1001"]["problem"]


def test_a_brain_without_usable_sections_has_an_empty_index(tmp_path):
    slab = slab_brain(tmp_path, [0.0, 2.0])
    slab.sections["status"] = "rejected"

    index = build_index(*slab.arguments())
    store = Store(tmp_path / "store")
    write_index(store.patch_index("B01"), index, BLOCK.model_dump(mode="json"))

    assert len(read_index(store, "B01")) == 0
    assert read_index_parameters(store, "B01")["sections"] == {}


def test_a_written_index_reads_back_as_the_same_with_its_parameters(index, tmp_path):
    store = Store(tmp_path)
    stale = store.patch_index("B01") / "part-1.parquet"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"older")

    write_index(store.patch_index("B01"), index, BLOCK.model_dump(mode="json"))

    assert not stale.exists()
    assert read_index(store, "B01").equals(index)
    few = read_index(store, "B01", columns=["patch_id", "depth"], where=pyarrow.dataset.field("sample") == "1001")
    assert list(few) == ["patch_id", "depth"]
    assert len(few) == (index["sample"] == "1001").sum()
    parameters = read_index_parameters(store, "B01")
    assert parameters["dataset"]["density_per_mm3"] == BLOCK.density_per_mm3
    assert parameters["sections"]["1001"]["represents_mm"] == 1.5
    schema = pyarrow.parquet.read_schema(store.patch_index("B01") / "part-0.parquet")
    assert schema.field("depth").metadata[b"description"].startswith(b"0 at the pial")


def test_other_programs_read_all_brains_as_one_partitioned_table(index, tmp_path):
    """Plain strings, not dictionaries: pyarrow refuses a dictionary column under folders that are named for it."""
    store = Store(tmp_path)
    for brain in ("B01", "B02"):
        write_index(store.patch_index(brain), index.assign(brain=brain), {})

    partitioned = pyarrow.dataset.dataset(tmp_path / "patch_index", partitioning="hive").to_table().to_pandas()
    whole = pd.read_parquet(tmp_path / "patch_index", partitioning=None)

    assert partitioned["brain"].tolist() == whole["brain"].tolist()
    assert whole["brain"].value_counts().to_dict() == {"B01": len(index), "B02": len(index)}


def test_a_brain_that_was_never_indexed_is_named(tmp_path):
    with pytest.raises(StoreError, match="B05: has no patch index"):
        read_index(Store(tmp_path), "B05")
