"""The stages that show what an encoder has learned: UMAP plots and area maps."""

import fnmatch
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from cytonet_pipeline.settings import CONTROLS, Settings
from cytonet_pipeline.stages.evaluation import PATCH_EMBEDDINGS, area_digest
from cytonet_pipeline.stages.reference import REFERENCE_SPACE
from cytonet_pipeline.stages.stage import Inputs, StampedStage, Summary, store_of
from cytonet_pipeline.stages.training import ENCODER
from cytonet_pipeline.store import digest_left_in, digest_of_result, read_record, stamp_digest

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
        return store_of(settings).umap(partition, ENCODER.version_in_use(settings, partition))

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
        return store_of(settings).area_maps(partition, ENCODER.version_in_use(settings, partition))

    def is_requested(self, settings: Settings, partition: str) -> bool:
        """See `Stage.is_requested`."""
        return _gets_plots(settings, partition)

    def inputs(self, settings: Settings, partition: str) -> dict[str, Any]:
        """See `Stage.inputs`."""
        from cytonet_pipeline.evaluation.maps.area_maps import mapped_brains, mapped_protocol
        from cytonet_pipeline.lineage import brains_left_out

        store = store_of(settings)
        version = ENCODER.version_in_use(settings, partition)
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


UMAP_PLOTS = UmapPlotsStage()
AREA_MAPS = AreaMapsStage()


def _gets_plots(settings: Settings, encoder: str) -> bool:
    wanted, block = settings.experiments.evaluation.umap_and_maps_of, settings.encoder(encoder)
    if isinstance(wanted, tuple):
        return any(fnmatch.fnmatch(encoder, name) for name in wanted)
    if block.labels_per_area is not None:
        # A point of a curve, of which there are dozens; it can be named.
        return False
    return wanted == "all" or block.method not in CONTROLS


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
