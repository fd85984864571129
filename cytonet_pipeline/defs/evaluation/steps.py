"""What each step of the evaluation computes, draws and tells. No Dagster here.

The rooms compute and stamp; figures are drawn beside the results when one of them is missing, so that a run killed
between both only draws again.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import digest_file, open_store, read_record

if TYPE_CHECKING:
    import pandas as pd

# Name on the asset page: place in `figures.json`.
_UMAP_FIGURES = {
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
_MAP_FIGURES = {
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


@dataclass(frozen=True)
class Told:
    """A result, as told to people."""

    folder: Path
    figures: Mapping[str, Any]
    pictures: Mapping[str, Path] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Digest of what the result was made from."""
        return digest_file(self.folder / "inputs.json")


def forget(folder: Path) -> None:
    """Make a result count as missing, so that its step does the work again."""
    for stamp in (folder / "inputs.json", *folder.glob("*/*inputs.json")):
        stamp.unlink(missing_ok=True)


def embed(settings: Settings, encoder: str) -> Told:
    """Features of every patch that the evaluation needs."""
    from cytonet_pipeline.evaluation.features.embedding_store import embed_for_evaluation, read_embeddings

    store = open_store(settings)
    folder = embed_for_evaluation(encoder, settings, store)
    ids, features = read_embeddings(store, encoder, folder.name)
    return Told(folder, {"patches": len(ids), "dimensions": int(features.shape[1])})


def probe(settings: Settings, encoder: str) -> Told:
    """All protocols, and the figures of the longest linear probe."""
    from cytonet_pipeline.evaluation.probes.runner import run_probes
    from cytonet_pipeline.reporting.probe_figures import probe_figures

    store = open_store(settings)
    rows = run_probes(encoder, settings, store)
    folder = store.linear_probes(encoder, store.current_encoder(encoder).name)
    whole = rows[rows["labels_per_area"] == 0]
    figures = {f"{r['protocol']} {r['split']}".replace("_", " ") + " macro F1": r["macro_f1"] for r in _scored(whole)}
    return Told(folder, figures, probe_figures(encoder, settings, store), {"scores": _scores(whole)})


def project(settings: Settings, encoder: str) -> Told:
    """UMAP, its figures, and the surface map."""
    from cytonet_pipeline.evaluation.embedding_analysis.projection import umap_of
    from cytonet_pipeline.reporting.umap_figures import umap_figures

    store = open_store(settings)
    folder = umap_of(encoder, settings, store)
    pictures = umap_figures(encoder, settings, store)
    figures = read_record(folder / "figures.json")
    return Told(folder, _shown(figures, _UMAP_FIGURES), pictures)


def map_areas(settings: Settings, encoder: str) -> Told:
    """Predicted areas on sections and in Colin-27."""
    from cytonet_pipeline.evaluation.maps.area_maps import area_maps
    from cytonet_pipeline.reporting.map_figures import map_figures

    store = open_store(settings)
    folder = area_maps(encoder, settings, store)
    pictures = map_figures(encoder, settings, store)
    brains = read_record(folder / "figures.json")["brains"]
    figures = {f"{brain} {n}": v for brain, told in brains.items() for n, v in _shown(told, _MAP_FIGURES).items()}
    return Told(folder, figures, pictures)


def tabulate(settings: Settings) -> Told:
    """The table of all results, and its picture."""
    from cytonet_pipeline.evaluation.table.metrics_table import metrics_table
    from cytonet_pipeline.reporting.metrics_figure import metrics_figure

    store = open_store(settings)
    rows = metrics_table(settings, store)
    folder = store.metrics()
    pictures = {}
    if not rows.empty:
        pictures["macro F1"] = metrics_figure(rows, folder / "metrics.png")
    figures = {
        "rows": len(rows),
        "encoders": int(rows["encoder"].nunique()),
        **{
            f"{r['encoder']} {r['protocol']} unseen brain macro F1": r["macro_f1"]
            for r in _scored(rows[(rows["labels_per_area"] == 0) & (rows["split"] == "unseen_brain")])
        },
    }
    return Told(folder, figures, pictures, {"table": (folder / "metrics.md").read_text(encoding="utf-8")})


def _scored(rows: "pd.DataFrame") -> list[dict[Any, Any]]:
    return [record for record in rows.to_dict("records") if not math.isnan(record["macro_f1"])]


def _scores(rows: "pd.DataFrame") -> str:
    from cytonet_pipeline.reporting.markdown import metrics_markdown

    return metrics_markdown(rows)


def _shown(figures: Mapping[str, Any], wanted: Mapping[str, str]) -> dict[str, Any]:
    """The figures worth plotting over time, by the name that people read; all of them are in the file."""
    found: dict[str, Any] = {}
    for name, path in wanted.items():
        value: Any = figures
        for key in path.split("/"):
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, (bool, int, float, str)):
            found[name] = value
    return found
