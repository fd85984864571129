"""Results of version 0.2.1 stay current: their `inputs.json` had these keys, with these code versions."""

import pytest

from cytonet_pipeline.stages import AREA_MAPS, LINEAR_PROBE, METRICS_TABLE, PATCH_EMBEDDINGS, UMAP_PLOTS
from cytonet_pipeline_tests.evaluation.conftest import ENCODER

# Read from the store that `make demo` of 0.2.1 left: keys, the name of the code version and its value.
OF_0_2_1 = [
    (PATCH_EMBEDDINGS, "indices samples_per_area schema_version umap_every version", "schema_version"),
    (LINEAR_PROBE, "code_version embeddings evaluation gap_mm method protocols", "code_version"),
    (UMAP_PLOTS, "embeddings form held_out knn_k min_dist neighbors reference seed", "form"),
    (AREA_MAPS, "brains embeddings form probe protocol reference spacing_mm version", "form"),
    (METRICS_TABLE, "bootstrap code_version gap_mm missing probes seed", "code_version"),
]
# Keys of the evaluation block that the probes' inputs had: a key that came later must not be among them at its default.
KEYS_OF_PROBES = {
    "batch_size", "bootstrap", "draws", "epochs", "knn_k", "knn_temperature", "labels_per_area", "learning_rates",
    "logistic_c", "samples_per_area", "seed", "umap_every",
}  # fmt: skip


@pytest.mark.parametrize(("stage", "keys", "version"), OF_0_2_1, ids=[stage.name for stage, _, _ in OF_0_2_1])
def test_the_inputs_have_the_keys_that_0_2_1_recorded(made, stage, keys, version):
    inputs = stage.inputs(made.settings, ENCODER if stage.partition_set else None)

    assert sorted(inputs) == keys.split()
    assert inputs[version] == 1
    if stage is LINEAR_PROBE:
        assert set(inputs["evaluation"]) == KEYS_OF_PROBES
