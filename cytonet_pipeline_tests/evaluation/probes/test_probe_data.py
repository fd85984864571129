"""Which labelled patches are for training, validation and test."""

import numpy as np
import pytest

from cytonet_pipeline.errors import DataFault, StoreError
from cytonet_pipeline.evaluation.features.embedding_store import write_embeddings
from cytonet_pipeline.evaluation.probes.probe_data import probe_data
from cytonet_pipeline.patches import write_index
from cytonet_pipeline_tests.conftest import restamp
from cytonet_pipeline_tests.evaluation.conftest import ENCODER, PATCHES_PER_SECTION, VERSION


def test_hyperparameters_are_chosen_on_validation_sections(made):
    data = probe_data(made.store, ENCODER, VERSION, made.settings)

    assert data.validation_source == "validation"
    assert (data.rows["role"][data.validation] == "validation").all()
    assert (data.rows["role"][data.train] == "train").all()


def test_one_area_alone_cannot_be_classified(made):
    for brain, index in made.indices.items():
        alone = index.assign(annotated_area=np.minimum(index["annotated_area"], 1))
        alone.attrs = index.attrs
        write_index(made.store.patch_index(brain), alone, {})

    with pytest.raises(DataFault, match="fewer than two areas"):
        probe_data(made.store, ENCODER, VERSION, made.settings)


def test_missing_features_are_counted(made):
    index = made.indices["B20"]
    part = made.store.patch_embeddings(ENCODER, VERSION, "B20") / "part-0.parquet"
    write_embeddings(part, index["patch_id"].to_numpy()[:-PATCHES_PER_SECTION], np.zeros((780, 12)), ENCODER, VERSION)
    restamp(part.parent)
    annotated = int((index["annotated_area"][-PATCHES_PER_SECTION:] > 0).sum())

    with pytest.raises(StoreError, match=f"{annotated} patches of the evaluation have no features"):
        probe_data(made.store, ENCODER, VERSION, made.settings)
