"""Which results of the evaluation are current. Each room says itself what its result is made from."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store, is_current

WantedInputs = Callable[[str, Settings, Store], Mapping[str, Any]]


def _of_encoder(
    folder: Callable[[Store, str, str], Path], module: str, name: str
) -> Callable[[Settings, str | None], bool]:
    def current(settings: Settings, encoder: str | None) -> bool:
        import importlib

        assert encoder is not None
        store = Store(settings.store)
        version = store.current_version(encoder)
        if version is None:
            return False
        wanted: WantedInputs = getattr(importlib.import_module(f"cytonet_pipeline.evaluation.{module}"), name)
        try:
            return is_current(folder(store, encoder, version), dict(wanted(encoder, settings, store)))
        except CytonetError:
            return False

    return current


def _table_is_current(settings: Settings, _: str | None) -> bool:
    from cytonet_pipeline.evaluation.table import metrics_table

    store = Store(settings.store)
    try:
        return is_current(store.metrics(), dict(metrics_table.wanted_table(settings, store)))
    except CytonetError:
        return False


CURRENT: dict[str, Callable[[Settings, str | None], bool]] = {
    "patch_embeddings": _of_encoder(Store.patch_embeddings, "features.embedding_store", "wanted_embeddings"),
    "linear_probe": _of_encoder(Store.linear_probes, "probes.runner", "wanted_probes"),
    "umap_plots": _of_encoder(Store.umap, "embedding_analysis.projection", "wanted_inputs"),
    "area_maps": _of_encoder(Store.area_maps, "maps.area_maps", "wanted_inputs"),
    "metrics_table": _table_is_current,
}
