"""The stages of evaluation of one encoder: features and probes; plots and maps are in `plots`.

What they compute is in the room `evaluation`, the pictures in `reporting`. Pictures are drawn beside a result when one
of them is missing or older, so that a run killed between both only draws again.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages.reference import REFERENCE_SPACE
from cytonet_pipeline.stages.stage import Inputs, ResumableStage, Summary, store_of
from cytonet_pipeline.stages.training import ENCODER
from cytonet_pipeline.store import (
    digest_left_in,
    digest_of,
    is_current,
    read_table,
    stamp_digest,
)

if TYPE_CHECKING:
    import pandas as pd

# Keys of the evaluation block that no score depends on.
_NOT_OF_PROBES = {"umap_neighbors", "umap_min_dist", "map_spacing_mm", "map_brains", "umap_and_maps_of"}


class PatchEmbeddingsStage(ResumableStage[str]):
    """Features of every patch that the evaluation needs: labelled, test and unseen ones, and the UMAP's sample."""

    name = "patch_embeddings"
    group = "evaluation"
    partition_set = "encoder"
    code_version = "1"

    def folder(self, settings: Settings, partition: str) -> Path:
        """See `Stage.folder`."""
        return store_of(settings).patch_embeddings(partition, ENCODER.version_in_use(settings, partition))

    def inputs(self, settings: Settings, partition: str) -> dict[str, Any]:
        """See `Stage.inputs`."""
        from cytonet_pipeline.evaluation.features.evaluation_set import evaluated_sections, index_digests

        store, block = store_of(settings), settings.experiments.evaluation
        version = ENCODER.version_in_use(settings, partition)
        brains = evaluated_sections(store, partition, version, settings)["brain"].unique()
        return {
            "version": version,
            "indices": index_digests(store, brains),
            "samples_per_area": block.samples_per_area,
            "umap_every": block.umap_every,
            "schema_version": int(self.code_version),
        }

    def compute(self, settings: Settings, partition: str, folder: Path, inputs: Inputs, *, recompute: bool) -> None:
        """Embed brain by brain."""
        from cytonet_pipeline.evaluation.features.embedding_store import embed_evaluation_set

        embed_evaluation_set(partition, settings, store_of(settings), int(self.code_version))

    def summary(self, settings: Settings, partition: str) -> Summary:
        """See `Stage.summary`."""
        from cytonet_pipeline.evaluation.features.embedding_store import read_embeddings

        folder = self.folder(settings, partition)
        ids, features = read_embeddings(store_of(settings), partition, folder.name)
        numbers = {"patches": len(ids), "dimensions": int(features.shape[1])}
        return Summary(folder, stamp_digest(folder), numbers=numbers)


class LinearProbeStage(ResumableStage[str]):
    """Brain areas from frozen features, by every protocol, on unseen sections and on the unseen brain.

    And `retrieval/`, which needs no label: a result of its own beside the probes. Where it is missing or stale, it is
    made alone; scores do not depend on it, and stay in the table of results meanwhile.
    """

    name = "linear_probe"
    group = "evaluation"
    partition_set = "encoder"
    code_version = "1"
    draws = True
    tables: ClassVar = {
        "predictions": "*/predictions.parquet",
        "drawn_predictions": "*/drawn_predictions.parquet",
        "metrics": "metrics.parquet",
        "retrieved": "retrieval/retrieved.parquet",
    }
    later_inputs = frozenset({"areas", "reference"})
    # Of `retrieval/` alone, as `code_version` is of the probes.
    retrieval_code_version: ClassVar = "1"

    def folder(self, settings: Settings, partition: str) -> Path:
        """See `Stage.folder`."""
        return store_of(settings).linear_probes(partition, ENCODER.version_in_use(settings, partition))

    def inputs(self, settings: Settings, partition: str) -> dict[str, Any]:
        """See `Stage.inputs`."""
        from cytonet_pipeline.evaluation.probes.protocols import own_labels, protocols_of

        block, encoder = settings.experiments.evaluation, settings.encoder(partition)
        method = encoder.method
        return {
            "areas": area_digest(settings, "name"),
            "reference": digest_left_in(REFERENCE_SPACE.folder(settings)),
            "embeddings": PATCH_EMBEDDINGS.inputs(settings, partition),
            "evaluation": self.evaluation_of(settings),
            "gap_mm": settings.experiments.dataset.gap_mm,
            "method": method,
            "protocols": [protocol.folder for protocol in protocols_of(method, block, own_labels(encoder))],
            "code_version": int(self.code_version),
        }

    def evaluation_of(self, settings: Settings) -> dict[str, Any]:
        """Return the keys of the evaluation block that scores depend on."""
        return settings.experiments.evaluation.model_dump(exclude=_NOT_OF_PROBES)

    def is_made_from(self, inputs: Mapping[str, Any], settings: Settings, partition: str) -> bool:
        """See `Stage.is_made_from`; version 0.2.1 recorded no area table, but the areas of each probe by name."""
        recorded = self.recorded_inputs(settings, partition)
        if recorded is not None and "areas" not in recorded:
            from cytonet_pipeline.evaluation.probes.runner import names_areas_as

            if not names_areas_as(_area_table(settings), self.folder(settings, partition)):
                return False
        return super().is_made_from(inputs, settings, partition)

    def is_current(self, settings: Settings, partition: str) -> bool:
        """See `Stage.is_current`; retrieval counts."""
        return super().is_current(settings, partition) and self.has_retrieval(settings, partition)

    def retrieval_folder(self, settings: Settings, partition: str) -> Path:
        """Return the folder of what was retrieved, and of its rows of the table of results."""
        return self.folder(settings, partition) / "retrieval"

    def retrieval_inputs(self, settings: Settings, partition: str) -> Inputs:
        """Return what current rows of retrieval are made from."""
        block, dataset = settings.experiments.evaluation, settings.experiments.dataset
        return {
            "embeddings": PATCH_EMBEDDINGS.inputs(settings, partition),
            "method": settings.encoder(partition).method,
            "patch_um": dataset.patch_um,
            "gap_mm": dataset.gap_mm,
            "bootstrap": block.bootstrap,
            "seed": block.seed,
            "retrieval_code_version": int(self.retrieval_code_version),
        }

    def has_retrieval(self, settings: Settings, partition: str) -> bool:
        """Whether the rows of retrieval are there and current."""
        inputs = self.retrieval_inputs(settings, partition)
        return is_current(self.retrieval_folder(settings, partition), inputs)

    def run(self, settings: Settings, partition: str, *, recompute: bool = False) -> None:
        """See `Stage.run`; a result from before there was retrieval gets it, and is otherwise kept."""
        from cytonet_pipeline.evaluation.retrieval.retrieval import write_retrieval

        super().run(settings, partition, recompute=recompute)
        if not self.has_retrieval(settings, partition):
            folder, version = self.retrieval_folder(settings, partition), ENCODER.version_in_use(settings, partition)
            inputs = self.retrieval_inputs(settings, partition)
            write_retrieval(folder, partition, version, settings, store_of(settings), inputs)

    def compute(self, settings: Settings, partition: str, folder: Path, inputs: Inputs, *, recompute: bool) -> None:
        """Run protocol by protocol."""
        from cytonet_pipeline.evaluation.probes.runner import run_probes

        run_probes(partition, settings, store_of(settings), inputs)

    def draw(self, settings: Settings, partition: str) -> Mapping[str, Path]:
        """See `StampedStage.draw`."""
        from cytonet_pipeline.reporting.confusion_figure import probe_figures

        return probe_figures(partition, settings, store_of(settings))

    def summary(self, settings: Settings, partition: str) -> Summary:
        """See `Stage.summary`; scores with all labels."""
        from cytonet_pipeline.reporting.markdown import metrics_markdown, retrieval_markdown

        folder = self.folder(settings, partition)
        rows = read_table(folder / "metrics.parquet", "metrics")
        # Of an encoder that was trained on a few labels there are no rows with all.
        all_labels = rows[rows["labels_per_area"] == rows["labels_per_area"].min()]
        numbers = {
            f"{r['protocol']} {r['split']}".replace("_", " ") + " macro F1": r["macro_f1"] for r in _scored(all_labels)
        }
        pictures = self.draw(settings, partition)
        texts = {"scores": metrics_markdown(all_labels)}
        if self.has_retrieval(settings, partition):
            retrieved = read_table(self.retrieval_folder(settings, partition) / "metrics.parquet", "metrics")
            numbers |= retrieval_numbers(retrieved)
            texts["retrieval without labels"] = retrieval_markdown(retrieved)
        return Summary(folder, stamp_digest(folder), numbers=numbers, pictures=pictures, texts=texts)


PATCH_EMBEDDINGS = PatchEmbeddingsStage()
LINEAR_PROBE = LinearProbeStage()


def retrieval_numbers(rows: "pd.DataFrame") -> dict[str, float]:
    """Return the medians of retrieval by the name that people read; those without a query are left out."""
    measured = rows[rows["retrieval_mm"].notna()].to_dict("records")
    return {f"{r['protocol']} {r['split']}".replace("_", " ") + " (mm)": float(r["retrieval_mm"]) for r in measured}


def area_digest(settings: Settings, *columns: str) -> str:
    """Return the digest of some columns of the annotations' area table, by index.

    Raises
    ------
    DataFault
        The table cannot be read.
    """
    areas = _area_table(settings).sort_values("index")
    return digest_of([areas[column].tolist() for column in ("index", *columns)])


def _area_table(settings: Settings) -> "pd.DataFrame":
    from cytonet_pipeline.dataset import Dataset

    return Dataset(settings.data, settings.experiments.dataset).area_names()


def _scored(rows: "pd.DataFrame") -> list[dict[Any, Any]]:
    return [record for record in rows.to_dict("records") if not math.isnan(record["macro_f1"])]
