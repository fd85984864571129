"""All protocols on the features of one encoder, with everything that is kept of them.

A protocol's folder is written in one piece and stamped: a killed run goes on with the next protocol.
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.evaluation.features.embedding_store import wanted_embeddings
from cytonet_pipeline.evaluation.features.evaluation_set import TEST_ROLES
from cytonet_pipeline.evaluation.metrics.area_distances import distance_summary, medoid_distances_mm
from cytonet_pipeline.evaluation.metrics.obliquity import scores_by_obliquity
from cytonet_pipeline.evaluation.metrics.scoring import area_scores, confusion, in_top
from cytonet_pipeline.evaluation.probes.end_to_end import read_classifier
from cytonet_pipeline.evaluation.probes.heads import Head, LinearHead
from cytonet_pipeline.evaluation.probes.knn import KnnHead
from cytonet_pipeline.evaluation.probes.label_draws import labels_of_draw
from cytonet_pipeline.evaluation.probes.linear import Schedule, fit_linear
from cytonet_pipeline.evaluation.probes.logistic import fit_logistic
from cytonet_pipeline.evaluation.probes.metric_rows import Identity, identity_of, metric_rows
from cytonet_pipeline.evaluation.probes.probe_data import ProbeData, probe_data
from cytonet_pipeline.evaluation.probes.protocols import Protocol, protocols_of
from cytonet_pipeline.progress import track
from cytonet_pipeline.settings import EvaluationBlock, Settings
from cytonet_pipeline.store import (
    Store,
    atomic_folder,
    is_current,
    read_table,
    table,
    write_record,
    write_stamp,
    write_table,
)

# Goes up when the same features would get other figures.
CODE_VERSION = 1

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bench:
    """What every protocol of one encoder needs."""

    who: Identity
    data: ProbeData
    block: EvaluationBlock
    gap_mm: float
    names: dict[int, str]
    encoder_folder: Path
    distances_mm: pd.DataFrame


def wanted_probes(encoder: str, settings: Settings, store: Store) -> dict[str, object]:
    """What the probes of the current version are made from; `inputs.json` of their folder when they are current."""
    block = settings.experiments.evaluation.model_dump(exclude={"umap_neighbors", "umap_min_dist", "map_spacing_mm",
                                                                "map_brains"})  # fmt: skip
    method = settings.encoder(encoder).method
    return {
        "embeddings": wanted_embeddings(encoder, settings, store),
        "evaluation": block,
        "gap_mm": settings.experiments.dataset.gap_mm,
        "method": method,
        "protocols": [protocol.folder for protocol in protocols_of(method, settings.experiments.evaluation)],
        "code_version": CODE_VERSION,
    }


def run_probes(encoder: str, settings: Settings, store: Store) -> pd.DataFrame:
    """Run every protocol that the encoder goes through.

    Returns
    -------
    DataFrame
        Rows of the table of results (`metrics`), also in `metrics.parquet` of the version's folder.
    """
    wanted = wanted_probes(encoder, settings, store)
    version = store.current_encoder(encoder).name
    folder = store.linear_probes(encoder, version)
    if not is_current(folder, wanted):
        bench = _bench(encoder, version, settings, store)
        protocols = protocols_of(settings.encoder(encoder).method, bench.block)
        tables = [
            _finished(protocol, bench, store.linear_probes(encoder, version, protocol.folder), wanted)
            for protocol in track(protocols, f"probing {encoder}")
        ]
        write_table(folder / "metrics.parquet", pd.concat(tables, ignore_index=True), "metrics")
        write_stamp(folder, wanted)
    return read_table(folder / "metrics.parquet", "metrics")


def fit_head(protocol: Protocol, draw: int, bench: Bench) -> tuple[Head, dict[str, object]]:
    """Put labels on features as a protocol says, without a look at any test row.

    Returns
    -------
    head
        With `classes` and `probabilities`.
    record : dict
        What was chosen, and how the candidates fared.
    """
    data, block = bench.data, bench.block
    labelled = np.flatnonzero(data.fit)
    labelled = labelled[labels_of_draw(data.rows.iloc[labelled], protocol.labels_per_area, draw)]
    train, choose = data.labelled(labelled), data.labelled(data.choose)
    if protocol.epochs:
        schedule = Schedule(protocol.epochs, block.learning_rates, block.batch_size, seed=block.seed)
        return fit_linear(train, choose, schedule)
    if protocol.name == "logistic":
        return fit_logistic(train, choose, block.logistic_c)
    if protocol.name == "end_to_end":
        return read_classifier(bench.encoder_folder), {}
    temperature = None if bench.who.method == "position" else block.knn_temperature
    return KnnHead(train, block.knn_k, temperature), {"k": block.knn_k, "temperature": temperature}


def predictions_of(head: Head, data: ProbeData) -> pd.DataFrame:
    """Predictions for all scored patches (table `predictions`), and what the scores need beside them.

    Returns
    -------
    DataFrame
        `patch_id`, `split`, `area`, `predicted_area`, `probability`, `in_top`, `brain`, `sample`, `position_mm`,
        `hemisphere`, `obliquity_deg`.
    """
    which = data.scored & np.isin(data.areas, head.classes)
    probabilities = head.probabilities(data.features[which])
    rows = data.rows[which].reset_index(drop=True)
    beside = rows[["patch_id", "brain", "sample", "position_mm", "hemisphere", "obliquity_deg"]]
    return beside.assign(
        split=rows["role"],
        area=rows["annotated_area"],
        predicted_area=head.classes[probabilities.argmax(axis=1)],
        probability=probabilities.max(axis=1, initial=0),
        in_top=in_top(probabilities, head.classes, rows["annotated_area"].to_numpy()),
    )


def _bench(encoder: str, version: str, settings: Settings, store: Store) -> Bench:
    names = Dataset(settings.data, settings.experiments.dataset).area_names()
    return Bench(
        who=identity_of(encoder, version, settings, store),
        data=probe_data(store, encoder, version, settings.experiments.evaluation),
        block=settings.experiments.evaluation,
        gap_mm=settings.experiments.dataset.gap_mm,
        names=dict(zip(names["index"].astype(int), names["name"].astype(str), strict=True)),
        encoder_folder=store.encoder(encoder, version),
        distances_mm=medoid_distances_mm(settings.reference, store),
    )


def _finished(protocol: Protocol, bench: Bench, folder: Path, wanted: dict[str, object]) -> pd.DataFrame:
    if not is_current(folder, wanted):
        with atomic_folder(folder) as writing:
            _run(protocol, bench, writing)
            write_stamp(writing, wanted)
    return read_table(folder / "metrics.parquet", "metrics")


def _run(protocol: Protocol, bench: Bench, folder: Path) -> None:
    started = time.perf_counter()
    rows, records = [], []
    for draw in range(protocol.draws):
        head, record = fit_head(protocol, draw, bench)
        predictions = predictions_of(head, bench.data)
        rows.append(
            metric_rows(
                predictions, bench.who, protocol, draw,
                gap_mm=bench.gap_mm, bootstrap=bench.block.bootstrap, seed=bench.block.seed,
            )
        )  # fmt: skip
        records.append(record)
        if protocol.labels_per_area == 0:
            _write_details(folder, head, record, predictions, bench)
    write_table(folder / "metrics.parquet", pd.concat(rows, ignore_index=True), "metrics")
    seconds = round(time.perf_counter() - started, 2)
    write_record(folder / "probe.json", {"draws": records, "seconds": seconds, **_classes(bench.data, bench.names)})
    _log.info("encoder %s: %s in %.1f s", bench.who.encoder, protocol.title, seconds)


def _write_details(
    folder: Path, head: Head, record: dict[str, object], predictions: pd.DataFrame, bench: Bench
) -> None:
    if isinstance(head, LinearHead):
        head.write(folder / "probe.safetensors", record)
    columns = [c.name for c in table("predictions").columns]
    write_table(folder / "predictions.parquet", predictions[columns], "predictions")
    write_table(folder / "area_scores.parquet", area_scores(predictions, bench.names), "area_scores")
    confusion(predictions).to_csv(folder / "confusion.csv", index=False)
    scores_by_obliquity(predictions).to_csv(folder / "obliquity.csv", index=False)
    write_record(folder / "distances.json", distance_summary(predictions, bench.distances_mm))


def _classes(data: ProbeData, names: dict[int, str]) -> dict[str, object]:
    """The class lists: areas trained on, and for each split those scored and those left out, with their patches."""
    trained = data.trained_areas
    roles = data.rows["role"].to_numpy()
    splits = {}
    for split in TEST_ROLES:
        areas, counts = np.unique(data.areas[roles == split], return_counts=True)
        known = np.isin(areas, trained)
        splits[split] = {
            "areas": areas[known].tolist(),
            "left_out": {names.get(int(a), str(a)): int(n) for a, n in zip(areas[~known], counts[~known], strict=True)},
        }
    return {
        "chosen_on": data.chosen_on,
        "n_fit": int(data.fit.sum()),
        "n_choose": int(data.choose.sum()),
        "areas": {str(area): names.get(int(area), f"area {area}") for area in trained},
        "splits": splits,
    }
