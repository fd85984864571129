"""The stages of evaluation of one encoder: features, probes, UMAP and area maps.

What they compute is in the room `evaluation`, the pictures in `reporting`. Pictures are drawn beside a result when one
of them is missing or older, so that a run killed between both only draws again.
"""

import fnmatch
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cytonet_pipeline.settings import CONTROLS, Settings
from cytonet_pipeline.stages.reference import REFERENCE_SPACE
from cytonet_pipeline.stages.stage import Inputs, ResumableStage, StampedStage, Summary, store_of
from cytonet_pipeline.stages.training import ENCODER
from cytonet_pipeline.store import (
    digest_left_in,
    digest_of,
    digest_of_result,
    is_current,
    read_record,
    read_table,
    stamp_digest,
)

if TYPE_CHECKING:
    import pandas as pd

# Name on the asset page: place in `figures.json`.
_UMAP_NUMBERS = {
    "patches": "n_patches",
    "effective rank": "embedding/effective_rank",
    "mean cosine": "embedding/mean_cosine",
    "same-brain neighbours over chance": "embedding/brains/same_brain_excess",
    "the same, brain means removed": "embedding/brains/same_brain_excess_centred",
    "silhouette by brain": "embedding/brains/silhouette_by_brain",
    "silhouette by area": "embedding/brains/silhouette_by_area",
    "step across the central sulcus over other sulci": "embedding/central_sulcus/step_over_other_sulci",
    "step across the central sulcus over within a bank": "embedding/central_sulcus/step_over_within",
    "UMAP 1, correlation with anterior": "umap_1_anterior_correlation",
    "PCA 1, correlation with anterior": "pca_1_anterior_correlation",
}
_MAP_NUMBERS = {
    "mapped": "mapped",
    "why not": "reason",
    "sections": "n_sections",
    "grid points": "n_points",
    "areas predicted": "areas_predicted",
    "mean probability": "mean_probability",
    "macro F1 against annotation, unseen brain": "agreement/unseen_brain/macro_f1",
    "macro F1 against annotation, unseen sections": "agreement/seen_brains/macro_f1",
    "share of cortex voxels with a prediction": "predicted_share",
}
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
        return store_of(settings).patch_embeddings(partition, _version_in_use(settings, partition))

    def inputs(self, settings: Settings, partition: str) -> dict[str, Any]:
        """See `Stage.inputs`."""
        from cytonet_pipeline.evaluation.features.evaluation_set import evaluated_sections, index_digests

        store, block = store_of(settings), settings.experiments.evaluation
        version = _version_in_use(settings, partition)
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
        return store_of(settings).linear_probes(partition, _version_in_use(settings, partition))

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
            folder, version = self.retrieval_folder(settings, partition), _version_in_use(settings, partition)
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


class UmapPlotsStage(StampedStage[str]):
    """Features in two dimensions and on the surface, and how far brains and areas separate."""

    name = "umap_plots"
    group = "evaluation"
    partition_set = "encoder"
    code_version = "1"
    draws = True
    tables: ClassVar = {"umap": "umap.parquet"}
    later_inputs = frozenset({"areas"})

    def folder(self, settings: Settings, partition: str) -> Path:
        """See `Stage.folder`."""
        return store_of(settings).umap(partition, _version_in_use(settings, partition))

    def is_requested(self, settings: Settings, partition: str) -> bool:
        """See `Stage.is_requested`."""
        return _gets_plots(settings, partition)

    def inputs(self, settings: Settings, partition: str) -> dict[str, Any]:
        """See `Stage.inputs`."""
        block = settings.experiments.evaluation
        return {
            "areas": area_digest(settings, "name", "color"),
            "embeddings": PATCH_EMBEDDINGS.inputs(settings, partition),
            "neighbors": block.umap_neighbors,
            "min_dist": block.umap_min_dist,
            "knn_k": block.knn_k,
            "seed": block.seed,
            "held_out": settings.held_out(partition),
            "reference": digest_left_in(REFERENCE_SPACE.folder(settings)),
            "form": int(self.code_version),
        }

    def compute(self, settings: Settings, partition: str, folder: Path, inputs: Inputs, *, recompute: bool) -> None:
        """Reduce the features, analyse them, and put them on the surface."""
        from cytonet_pipeline.evaluation.embedding_analysis.projection import write_umap

        write_umap(folder, partition, settings, store_of(settings), inputs)

    def draw(self, settings: Settings, partition: str) -> Mapping[str, Path]:
        """See `StampedStage.draw`."""
        from cytonet_pipeline.reporting.umap_figures import umap_figures

        return umap_figures(partition, settings, store_of(settings))

    def summary(self, settings: Settings, partition: str) -> Summary:
        """See `Stage.summary`."""
        folder = self.folder(settings, partition)
        pictures = self.draw(settings, partition)
        numbers = _picked(read_record(folder / "figures.json"), _UMAP_NUMBERS)
        return Summary(folder, stamp_digest(folder), numbers=numbers, pictures=pictures)


class AreaMapsStage(StampedStage[str]):
    """Predicted areas over whole sections, and as a label volume with probabilities in Colin-27."""

    name = "area_maps"
    group = "evaluation"
    partition_set = "encoder"
    code_version = "1"
    draws = True
    tables: ClassVar = {"map_grid": "*_grid.parquet"}
    later_inputs = frozenset({"areas"})
    # The volumes have the names and colours of the atlas.
    drawn_inputs = frozenset({"areas"})

    def folder(self, settings: Settings, partition: str) -> Path:
        """See `Stage.folder`."""
        return store_of(settings).area_maps(partition, _version_in_use(settings, partition))

    def is_requested(self, settings: Settings, partition: str) -> bool:
        """See `Stage.is_requested`."""
        return _gets_plots(settings, partition)

    def inputs(self, settings: Settings, partition: str) -> dict[str, Any]:
        """See `Stage.inputs`."""
        from cytonet_pipeline.evaluation.maps.area_maps import mapped_brains, mapped_protocol
        from cytonet_pipeline.lineage import brains_left_out

        store = store_of(settings)
        version = _version_in_use(settings, partition)
        protocol = mapped_protocol(partition, settings)
        probe = store.linear_probes(partition, version, protocol) / "probe.safetensors"
        mapped = mapped_brains(partition, settings)
        # One that the store never had cannot be mapped either way.
        left_out = brains_left_out(settings, set(mapped) & set(store.indexed_brains()))
        brains = {
            brain: {
                "sections": digest_left_in(store.section_scans(brain)),
                "transforms": digest_left_in(store.colin27_transforms(brain)),
                **({"left out": left_out[brain]} if brain in left_out else {}),
            }
            for brain in mapped
        }
        return {
            "areas": area_digest(settings, "name", "color"),
            "version": version,
            "protocol": protocol,
            "embeddings": PATCH_EMBEDDINGS.inputs(settings, partition) if protocol == "knn" else None,
            "probe": digest_of_result(probe) if probe.is_file() else "missing",
            "brains": brains,
            "reference": digest_left_in(REFERENCE_SPACE.folder(settings)),
            "spacing_mm": settings.experiments.evaluation.map_spacing_mm,
            "form": int(self.code_version),
        }

    def compute(self, settings: Settings, partition: str, folder: Path, inputs: Inputs, *, recompute: bool) -> None:
        """Map brain by brain; one that cannot be mapped is recorded with its reason."""
        from cytonet_pipeline.evaluation.maps.area_maps import write_area_maps

        write_area_maps(folder, partition, settings, store_of(settings))

    def draw(self, settings: Settings, partition: str) -> Mapping[str, Path]:
        """See `StampedStage.draw`."""
        from cytonet_pipeline.reporting.map_figures import map_figures

        return map_figures(partition, settings, store_of(settings))

    def summary(self, settings: Settings, partition: str) -> Summary:
        """See `Stage.summary`."""
        folder = self.folder(settings, partition)
        pictures = self.draw(settings, partition)
        brains = read_record(folder / "figures.json")["brains"]
        numbers = {
            f"{brain} {name}": value
            for brain, figures in brains.items()
            for name, value in _picked(figures, _MAP_NUMBERS).items()
        }
        return Summary(folder, stamp_digest(folder), numbers=numbers, pictures=pictures)


PATCH_EMBEDDINGS = PatchEmbeddingsStage()
LINEAR_PROBE = LinearProbeStage()
UMAP_PLOTS = UmapPlotsStage()
AREA_MAPS = AreaMapsStage()


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


def _gets_plots(settings: Settings, encoder: str) -> bool:
    wanted, block = settings.experiments.evaluation.umap_and_maps_of, settings.encoder(encoder)
    if isinstance(wanted, tuple):
        return any(fnmatch.fnmatch(encoder, name) for name in wanted)
    if block.labels_per_area is not None:
        # A point of a curve, of which there are dozens; it can be named.
        return False
    return wanted == "all" or block.method not in CONTROLS


def _version_in_use(settings: Settings, encoder: str) -> str:
    return ENCODER.version_in_use(settings, encoder)


def _scored(rows: "pd.DataFrame") -> list[dict[Any, Any]]:
    return [record for record in rows.to_dict("records") if not math.isnan(record["macro_f1"])]


def _picked(figures: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, Any]:
    """Pick the figures worth plotting over time, by the name that people read; the file has all of them."""
    picked: dict[str, Any] = {}
    for name, path in places.items():
        value: Any = figures
        for key in path.split("/"):
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, (bool, int, float, str)):
            picked[name] = value
    return picked
