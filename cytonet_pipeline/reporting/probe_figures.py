"""Pictures of an encoder's probes, drawn beside them in the store."""

from collections.abc import Mapping
from pathlib import Path

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.evaluation.maps.area_maps import mapped_protocol
from cytonet_pipeline.reporting.confusion_figure import confusion_figure
from cytonet_pipeline.reporting.freshness import are_fresh
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store, read_table


def probe_figures(encoder: str, settings: Settings, store: Store) -> Mapping[str, Path]:
    """Draw the confusions of the main protocol, if they are missing or older than the probes.

    Returns
    -------
    mapping
        Title and PNG.
    """
    folder = store.linear_probes(encoder, store.current_encoder(encoder).name)
    protocol = mapped_protocol(encoder, settings)
    path = folder / f"confusion_{protocol}.png"
    if not are_fresh([path], folder):
        predictions = read_table(folder / protocol / "predictions.parquet", "predictions")
        names = Dataset(settings.data, settings.experiments.dataset).area_names()
        confusion_figure(predictions, names, path, f"{encoder}, {protocol}: confusion of areas")
    return {"confusion of areas": path}
