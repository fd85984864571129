"""Which patches are evaluated, what each is for, and how their features are stored."""

import numpy as np
import pandas as pd
import pytest

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.evaluation.features import embedding_store
from cytonet_pipeline.evaluation.features.embedding_store import read_embeddings, write_embeddings
from cytonet_pipeline.evaluation.features.evaluation_set import evaluation_set, umap_sample
from cytonet_pipeline.patches import write_index
from cytonet_pipeline.stages import PATCH_EMBEDDINGS
from cytonet_pipeline.store import read_table, write_table
from cytonet_pipeline_tests.evaluation.conftest import ENCODER, SPACING_MM, VERSION


def rows_of(made):
    return evaluation_set(made.store, ENCODER, VERSION, made.settings)


def test_roles_are_the_encoders_and_gaps_stay_out(made):
    """The index's own split stands for the default held-out brain only."""
    rows = rows_of(made)

    assert set(rows["role"]) == {"train", "validation", "seen_brains", "unseen_brain"}
    assert not {"0010", "0020", "0028"} & set(rows.loc[rows["brain"] != "B20", "sample"])
    assert (rows.loc[rows["brain"] == "B20", "role"] == "unseen_brain").all()


def test_every_annotated_test_patch_is_scored(made):
    rows = rows_of(made)

    annotated = made.indices["B20"]["annotated_area"] > 0
    unseen = rows[(rows["role"] == "unseen_brain") & rows["labelled"]]
    assert set(unseen["patch_id"]) == set(made.indices["B20"]["patch_id"][annotated])


def test_training_takes_the_smallest_orders_of_each_area(made):
    rows = rows_of(made)
    train = rows[rows["labelled"] & (rows["role"] == "train")]

    assert train["annotated_area"].value_counts().max() == 150
    everything = pd.concat(made.indices.values())
    sections = read_table(made.store.encoder(ENCODER, VERSION) / "sections.parquet", "training_sections")
    role = everything.merge(sections[["brain", "sample", "role"]])
    candidates = role[(role["role"] == "train") & (role["annotated_area"] == 3)]
    expected = candidates.nsmallest(150, "order")["patch_id"]
    assert set(train.loc[train["annotated_area"] == 3, "patch_id"]) == set(expected)


def test_the_umap_sample_is_every_nth_patch_of_each_brain_and_nested():
    random = np.random.default_rng(0)
    rows = pd.DataFrame({"brain": np.repeat(["B01", "B02"], [1000, 333]), "order": random.permutation(1333)})

    fifth, fiftieth = umap_sample(rows, 5), umap_sample(rows, 50)

    assert fifth.sum() == 200 + 67
    assert fiftieth.sum() == 20 + 7
    assert (fifth | ~fiftieth).all()


def test_positions_are_those_along_the_series(made):
    rows = rows_of(made)

    assert rows["position_mm"].to_numpy() == pytest.approx(rows["section"] * SPACING_MM)


def test_features_come_back_as_written(tmp_path, made):
    ids, features = np.arange(7, dtype=np.uint64) + 2**63, np.random.default_rng(0).normal(size=(7, 3))
    folder = made.store.patch_embeddings("other", "v", "B01")
    write_embeddings(folder / "part-0.parquet", ids, features, "other", "v")

    read_ids, read = read_embeddings(made.store, "other", "v")

    assert read_ids.tolist() == ids.tolist()
    assert read.dtype == np.float32
    assert read == pytest.approx(features.astype(np.float16).astype(np.float32))


def test_another_table_is_not_read_as_features(made):
    folder = made.store.patch_embeddings("other", "v", "B01")
    columns = ["patch_id", "umap_1", "umap_2"]
    write_table(folder / "part-0.parquet", pd.DataFrame([[1, 0.0, 0.0]], columns=columns), "umap")

    with pytest.raises(StoreError, match="not features"):
        read_embeddings(made.store, "other", "v")


def test_a_rebuilt_index_makes_features_stale(made):
    before = PATCH_EMBEDDINGS.inputs(made.settings, ENCODER)
    changed = made.indices["B01"].assign(annotated_area=1)
    changed.attrs = made.indices["B01"].attrs
    write_index(made.store.patch_index("B01"), changed, {})

    after = PATCH_EMBEDDINGS.inputs(made.settings, ENCODER)

    assert before["indices"]["B01"] != after["indices"]["B01"]
    assert before["indices"]["B20"] == after["indices"]["B20"]


def test_a_new_code_version_embeds_every_brain_again(made, monkeypatch):
    """The stamp of a brain names the version too: otherwise old features would get the stamp of new ones."""
    embedded = []

    def features_of(folder, rows, brain, block, report):
        embedded.append(brain.name)
        return np.ones((len(rows), 3), np.float32)

    monkeypatch.setattr(embedding_store, "features_of", features_of)
    PATCH_EMBEDDINGS.run(made.settings, ENCODER, recompute=True)
    embedded.clear()

    monkeypatch.setattr(type(PATCH_EMBEDDINGS), "code_version", "2")
    PATCH_EMBEDDINGS.run(made.settings, ENCODER)

    assert embedded == ["B01", "B02", "B20"]
    embedded.clear()
    PATCH_EMBEDDINGS.run(made.settings, ENCODER)
    assert embedded == []


def test_a_brain_that_is_not_released_any_more_is_not_evaluated(made):
    """A withdrawn consent holds for the tables too, and from that moment, not from the next training run."""
    before = PATCH_EMBEDDINGS.inputs(made.settings, ENCODER)
    (made.settings.data / "participants.tsv").write_text(
        "participant_id\tingest\nsub-B01\tready\nsub-B02\twithdrawn\nsub-B20\tready\n"
    )

    assert set(rows_of(made)["brain"]) == {"B01", "B20"}
    indices = PATCH_EMBEDDINGS.inputs(made.settings, ENCODER)["indices"]
    assert indices == {brain: before["indices"][brain] for brain in ("B01", "B20")}
